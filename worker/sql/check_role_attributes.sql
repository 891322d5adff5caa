-- A list of expressions: the attributes of role r, and the roles that it is in, as
-- CREATE ROLE has them.
--
-- Copyright (c) 2026, the zodan_bgw authors
CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
CASE WHEN NOT r.rolinherit THEN 'NOINHERIT' END,
CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
CASE WHEN r.rolreplication THEN 'REPLICATION' END,
CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
CASE WHEN r.rolconnlimit <> -1 THEN 'CONNECTION LIMIT ' || r.rolconnlimit END,
'IN ROLE ' || (SELECT string_agg(DISTINCT quote_ident(g.rolname), ', ')
                 FROM pg_catalog.pg_auth_members m
                 JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
                WHERE m.member = r.oid)
