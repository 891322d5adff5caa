-- Check automatic_ddl: the engine doesn't replicate DDL, neither here nor in a session
-- for which a role or the database sets that.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT x.found,
       'off',
       'Turn it off on all nodes, and change no tables until the node has joined.'
  FROM (SELECT format('%s = %s', name, setting) AS found
          FROM pg_catalog.pg_settings
         WHERE name = '{ddl}'
           AND setting <> 'off'
         UNION ALL
        SELECT format('%s for role %s, database %s', c, coalesce(r.rolname, 'any'), coalesce(d.datname, 'any'))
          FROM pg_catalog.pg_db_role_setting s
          LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
          LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c
         WHERE c LIKE '{ddl}=%'
           AND c !~* '=(off|false|no|0|f|n)$'
           AND (d.datname IS NULL OR d.datname = current_database())) AS x
