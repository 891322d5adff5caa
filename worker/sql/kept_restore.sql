-- The body of a DO statement: changes back what kept_rights.sql is about. What isn't
-- there any more is passed over, and so is what has come since, but for privileges on
-- the system's own objects.
--
-- This is a format, hence the %%. Its four %s are, in this order:
--   what kept_rights.sql has returned before, as a literal
--   what it returns now, as a literal
--   kept_acl_changes.sql
--   the same again
--
-- Copyright (c) 2026, the zodan_bgw authors
DECLARE
  before json := %s;
  after json := %s;
  r record;
  d record;
  noun text;
BEGIN
  FOR r IN
    WITH w AS (
      SELECT *
        FROM pg_catalog.json_to_recordset(before -> 'objects')
               AS x(classid oid, objid oid, objsubid int, kind text, owner oid, acl text, comment text)),
    n AS (
      SELECT *
        FROM pg_catalog.json_to_recordset(after -> 'objects')
               AS x(classid oid, objid oid, objsubid int, kind text, owner oid, acl text, comment text)),
    b AS (
      SELECT classid, objid, objsubid,
             coalesce(w.kind, n.kind) AS kind,
             coalesce(w.owner, n.owner) AS owner, w.acl, w.comment,
             coalesce(n.owner, w.owner) AS now_owner, n.acl AS now_acl, n.comment AS now_comment
        FROM w
        FULL JOIN n USING (classid, objid, objsubid)
       WHERE w.classid IS NOT NULL AND n.classid IS NOT NULL
          OR objid < 16384)
    SELECT *, CASE WHEN kind IS NOT NULL THEN pg_catalog.acldefault(kind::"char", owner) END AS base
      FROM b
     WHERE (owner, acl, comment) IS DISTINCT FROM (now_owner, now_acl, now_comment)
  LOOP
    SELECT CASE r.kind
             WHEN 'n' THEN 'SCHEMA '
             WHEN 's' THEN 'SEQUENCE '
             WHEN 'r' THEN 'TABLE '
             WHEN 'c' THEN 'TABLE '
             WHEN 'f' THEN 'ROUTINE '
             WHEN 'T' THEN 'TYPE '
             WHEN 'l' THEN 'LANGUAGE '
             WHEN 'F' THEN 'FOREIGN DATA WRAPPER '
             WHEN 'S' THEN 'FOREIGN SERVER '
             ELSE 'EXTENSION '
           END || identity
      INTO noun
      FROM pg_catalog.pg_identify_object(r.classid, r.objid, 0);
    IF r.now_comment IS DISTINCT FROM r.comment THEN
      EXECUTE pg_catalog.format('COMMENT ON %%s IS %%L', noun, r.comment);
    END IF;
    IF r.now_owner <> r.owner THEN
      EXECUTE pg_catalog.format('ALTER %%s OWNER TO %%I', noun, pg_catalog.pg_get_userbyid(r.owner));
      SELECT nspacl::text INTO r.now_acl FROM pg_catalog.pg_namespace WHERE oid = r.objid;
    END IF;
    CONTINUE WHEN r.kind IS NULL;
    FOR d IN
%s
    LOOP
      EXECUTE pg_catalog.format('SET LOCAL ROLE %%I', pg_catalog.pg_get_userbyid(d.grantor));
      EXECUTE pg_catalog.format('%%s %%s%%s ON %%s%%s', d.verb, d.privilege_type,
        CASE WHEN r.kind = 'c' THEN
          pg_catalog.format(' (%%I)', (SELECT attname
                                         FROM pg_catalog.pg_attribute
                                        WHERE attrelid = r.objid
                                          AND attnum = r.objsubid))
        END,
        noun, d.whom);
      RESET ROLE;
    END LOOP;
  END LOOP;
  FOR r IN
    WITH w AS (
      SELECT *
        FROM pg_catalog.json_to_recordset(before -> 'defaults') AS x(owner oid, nsp oid, kind text, acl text)),
    n AS (
      SELECT *
        FROM pg_catalog.json_to_recordset(after -> 'defaults') AS x(owner oid, nsp oid, kind text, acl text))
    SELECT owner, nsp, kind, w.acl, n.acl AS now_acl,
           CASE WHEN nsp = 0 THEN
             pg_catalog.acldefault(CASE kind WHEN 'S' THEN 's' ELSE kind END::"char", owner)
           END AS base
      FROM w
      FULL JOIN n USING (owner, nsp, kind)
     WHERE w.acl IS DISTINCT FROM n.acl
       AND (nsp = 0
            OR EXISTS (SELECT FROM pg_catalog.pg_namespace s
                        WHERE s.oid = nsp))
  LOOP
    FOR d IN
%s
    LOOP
      EXECUTE pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I%%s %%s %%s ON %%s%%s',
        pg_catalog.pg_get_userbyid(r.owner),
        (SELECT pg_catalog.format(' IN SCHEMA %%I', nspname) FROM pg_catalog.pg_namespace WHERE oid = r.nsp),
        d.verb, d.privilege_type,
        CASE r.kind
          WHEN 'r' THEN 'TABLES'
          WHEN 'S' THEN 'SEQUENCES'
          WHEN 'f' THEN 'FUNCTIONS'
          WHEN 'T' THEN 'TYPES'
          WHEN 'n' THEN 'SCHEMAS'
          ELSE 'LARGE OBJECTS'
        END,
        d.whom);
    END LOOP;
  END LOOP;
END
