-- Check triggers: none that fires for replicated changes writes into a replicated table, as
-- far as the text of its function tells: such rows come twice, by it and by replication.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('trigger %I of table %s is enabled %s, and its function %s names what is replicated: %s',
              t.tgname, x.name, CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END, o.oid::regprocedure, w.names),
       'no trigger that fires for replicated changes and writes into replicated tables, since those rows come twice',
       format('Let it fire for local changes only, by ALTER TABLE %s ENABLE TRIGGER %I on all nodes. If it writes into no replicated table, file the request again with %s in options.accept_triggers, an array.',
              x.name, t.tgname, pg_catalog.to_json(format('%s.%I', x.name, t.tgname)))
  FROM p
 CROSS JOIN ({published}) AS x(name, sets)
  JOIN pg_catalog.pg_trigger t ON t.tgrelid = to_regclass(x.name)
  JOIN pg_catalog.pg_proc o ON o.oid = t.tgfoid
 CROSS JOIN LATERAL coalesce(pg_catalog.pg_get_function_sqlbody(o.oid), o.prosrc) AS f(body)
 CROSS JOIN LATERAL (
        SELECT pg_catalog.string_agg(y.name, ', ' ORDER BY y.name)
          FROM ({published}) AS y(name, sets)
          JOIN pg_catalog.pg_class c ON c.oid = to_regclass(y.name)
         WHERE y.sets && p.sets
           AND f.body ~* ('\m' || pg_catalog.regexp_replace(c.relname, '(\W)', '\\\1', 'g') || '\M')) AS w(names)
 WHERE x.sets && p.sets
   AND t.tgenabled IN ('A', 'R')
   AND NOT t.tgisinternal
   AND f.body ~* '\m(insert|update|delete|merge|truncate|copy)\M'
   AND w.names IS NOT NULL
   AND format('%s.%I', x.name, t.tgname) <> ALL (p.accepted_triggers)
