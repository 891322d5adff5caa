-- For the check roles: the roles of the source that can log in, with their attributes,
-- and those that own or may use something in its database. A JSON array.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT coalesce(pg_catalog.json_agg(r), '[]')
  FROM (SELECT r.rolname,
               r.rolcanlogin,
               CASE WHEN r.rolcanlogin THEN pg_catalog.concat_ws(' ', {role}) END AS attributes
          FROM pg_catalog.pg_roles r
         WHERE r.rolname !~ '^pg_'
           AND (r.rolcanlogin
                OR EXISTS (SELECT FROM pg_catalog.pg_shdepend d
                            WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
                              AND d.refobjid = r.oid
                              AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database
                                                  WHERE datname = current_database()))))) AS r
