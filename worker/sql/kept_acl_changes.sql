-- A part of kept_restore.sql: what has to be done so that r.now_acl becomes r.acl, a
-- step a row. NULL stands for r.base. An array without elements isn't one of
-- privileges to aclexplode().
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH was AS (
  SELECT *
    FROM pg_catalog.aclexplode(CASE WHEN r.acl IS NULL THEN r.base ELSE nullif(r.acl, '{}')::pg_catalog.aclitem[] END)),
isnow AS (
  SELECT *
    FROM pg_catalog.aclexplode(CASE WHEN r.now_acl IS NULL THEN r.base ELSE nullif(r.now_acl, '{}')::pg_catalog.aclitem[] END)),
changes AS (
  SELECT 1 AS step, 'REVOKE' AS verb, x.*
    FROM (SELECT * FROM isnow EXCEPT SELECT * FROM was) AS x
   UNION ALL
  SELECT 2, 'GRANT', x.*
    FROM (SELECT * FROM was EXCEPT SELECT * FROM isnow) AS x)
SELECT *,
       CASE verb WHEN 'GRANT' THEN ' TO ' ELSE ' FROM ' END ||
       CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END ||
       CASE WHEN verb = 'REVOKE' THEN ' CASCADE' WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS whom
  FROM changes
 ORDER BY step
