-- Check roles: the new node has the source's roles, those that can log in with the
-- same attributes. source: what check_roles_source.sql returns.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT CASE WHEN r.oid IS NULL THEN format('no role %I', s.rolname)
            ELSE format('role %I: %s', s.rolname, concat_ws(' ', {role})) END,
       CASE WHEN r.oid IS NULL OR s.attributes IS NULL THEN 'the role that the source has'
            ELSE s.attributes END,
       'Make the role on the new node as it is on the source (pg_dumpall --roles-only).'
  FROM p, json_to_recordset(source) AS s(rolname name, rolcanlogin bool, attributes text)
  LEFT JOIN pg_catalog.pg_roles r ON r.rolname = s.rolname
 WHERE r.oid IS NULL
    OR s.attributes <> concat_ws(' ', {role})
