-- The beginning of a statement: all objects that a dump could have an entry for, but
-- for what belongs to a table. "o" has their classid and objid, "i" also their type,
-- schema and name, which is what pg_identify_object() says and doesn't depend on
-- search_path.
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH o(classid, objid) AS (
  SELECT tableoid, oid
    FROM pg_catalog.pg_class
   WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
   UNION ALL
  SELECT tableoid, oid
    FROM pg_catalog.pg_type t
   WHERE typcategory <> 'A'
     AND (typrelid = 0
          OR EXISTS (SELECT FROM pg_catalog.pg_class c
                      WHERE c.oid = t.typrelid
                        AND c.relkind = 'c'))
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_proc
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_operator
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_opclass
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_opfamily
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_am
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_cast
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_collation
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_conversion
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_language
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_namespace
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_event_trigger
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_publication
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_foreign_data_wrapper
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_foreign_server
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_user_mapping
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_statistic_ext
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_config
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_dict
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_parser
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_template
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_transform
   UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_extension),
i AS (
  SELECT o.classid, o.objid, a.type, a.schema, a.type || ' ' || a.identity AS name
    FROM o
   CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS a
   WHERE (o.objid >= 16384 OR a.type = 'extension')
     AND concat_ws('.', a.schema, CASE a.type WHEN 'schema' THEN a.name END) !~ '^pg_(toast_)?temp_')
