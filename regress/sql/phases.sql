-- The table of phases as the worker has it, and what every object says of itself.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS zodan_bgw;
RESET client_min_messages;

SELECT * FROM zodan.phases();
SELECT * FROM zodan.phases('remove_node');
SELECT * FROM zodan.phases('check');
SELECT count(*) FROM zodan.phases('nonsense');
SELECT count(*) FROM zodan.phases(NULL);

-- numbered without a gap, names and descriptions unique
SELECT o AS operation,
       array_agg(p.phase_no ORDER BY p.phase_no) = array_agg(p.n ORDER BY p.n) AS numbered,
       count(DISTINCT p.phase) = count(*) AS names_differ,
       count(DISTINCT p.description) = count(*) AS descriptions_differ
  FROM unnest('{add_node,remove_node,check}'::text[]) AS o,
       LATERAL (SELECT *, row_number() OVER ()::int AS n FROM zodan.phases(o)) AS p
 GROUP BY o ORDER BY o;

-- objects of the schema without a comment: a row type and an array type aren't anyone's to explain
SELECT pg_describe_object(classid, objid, 0) AS without_comment
  FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class
         WHERE relnamespace = 'zodan'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
        UNION ALL
        SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'zodan'::regnamespace
        UNION ALL
        SELECT 'pg_type'::regclass, oid FROM pg_type
         WHERE typnamespace = 'zodan'::regnamespace AND typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT 'pg_namespace'::regclass, 'zodan'::regnamespace) AS o
 WHERE obj_description(objid, classid::regclass::name) IS NULL
 ORDER BY 1;

-- what anybody may do who can use the schema: see the phases
SELECT p.oid::regprocedure AS executable_by_public
  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE p.pronamespace = 'zodan'::regnamespace AND a.grantee = 0
 ORDER BY 1;
SELECT c.oid::regclass AS open_to_public
  FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a
 WHERE c.relnamespace = 'zodan'::regnamespace AND a.grantee = 0
 ORDER BY 1;
SELECT a.privilege_type AS schema_open_to_public
  FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
 WHERE n.nspname = 'zodan' AND a.grantee = 0;

-- a function that runs with its owner's rights, or that is written in SQL, has a search_path of its own;
-- a procedure that ends transactions can't have one, and must not have its owner's rights
SELECT p.oid::regprocedure AS search_path_not_pinned
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'zodan'::regnamespace AND (p.prosecdef OR l.lanname IN ('sql', 'plpgsql') AND p.prokind <> 'p')
   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search\_path=%')
 ORDER BY 1;
