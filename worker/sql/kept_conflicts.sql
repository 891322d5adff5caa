-- What follows kept_objects.sql: which of the new node's objects the source has, too,
-- though they can't be on both. A name a row, at most 20 of them. Extensions, and
-- schemas that are left out, with what is in them, count as none.
--
-- $1  the names of the new node's objects, text[]
-- $2  schemas that are left out, text[]
-- $3  the engine's schemas, text[]
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT name
  FROM i
 WHERE name = ANY ($1::text[])
   AND type <> 'extension'
   AND coalesce(schema <> ALL ($2::text[] || $3::text[]), true)
   AND NOT (type = 'schema'
            AND pg_catalog.substr(name, 8) = ANY (SELECT pg_catalog.quote_ident(s)
                                                    FROM pg_catalog.unnest($2::text[] || $3::text[] || '{zodan}'::text[]) AS s))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = i.classid
                      AND d.objid = i.objid
                      AND d.deptype IN ('e', 'i'))
 ORDER BY 1
 LIMIT 20
