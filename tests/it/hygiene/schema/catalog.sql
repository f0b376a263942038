-- All that a finding's advice may touch, by names alone, a line each: what was taken back must print the same again.
SELECT line FROM (
  SELECT format('table %s.%s: %s, persistence %s, identity %s, options %s, partition of %s %s, tablespace %s, %s', n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident,
    c.reloptions, (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid), pg_get_expr(c.relpartbound, c.oid), t.spcname,
    obj_description(c.oid, 'pg_class')) AS line
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
  WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_|^information_schema$'
  UNION ALL
  SELECT format('column %s.%s.%s: %s%s, collation %s, default %s, identity %s, generated %s, statistics %s, storage %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN ' NOT NULL' END, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, nullif(a.attstattarget, -1), a.attstorage)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relkind IN ('r', 'p', 'm', 'i', 'I') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_|^information_schema$'
  UNION ALL
  SELECT format('index %s, options %s, tablespace %s, attached to %s, constraint %s, unique %s, primary %s, valid %s, ready %s, clustered %s, identity %s, %s', pg_get_indexdef(i.oid), i.reloptions, t.spcname,
    (SELECT h.inhparent::regclass FROM pg_inherits h WHERE h.inhrelid = i.oid), k.conname, x.indisunique, x.indisprimary, x.indisvalid, x.indisready, x.indisclustered, x.indisreplident,
    obj_description(i.oid, 'pg_class'))
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace LEFT JOIN pg_tablespace t ON t.oid = i.reltablespace
  LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x') WHERE n.nspname !~ '^pg_|^information_schema$'
  UNION ALL
  SELECT format('constraint %s.%s of %s: %s, validated %s, local %s, inherited %s, from %s, %s', n.nspname, k.conname, k.conrelid::regclass, pg_get_constraintdef(k.oid), k.convalidated, k.conislocal,
    k.coninhcount, (SELECT p.conname FROM pg_constraint p WHERE p.oid = k.conparentid), obj_description(k.oid, 'pg_constraint'))
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname !~ '^pg_|^information_schema$'
  UNION ALL
  SELECT format('sequence %s: %s from %s to %s by %s, cycles %s', s.seqrelid::regclass, s.seqtypid::regtype, s.seqmin, s.seqmax, s.seqincrement, s.seqcycle) FROM pg_sequence s
  UNION ALL
  SELECT format('policy %s of %s: %s', p.polname, p.polrelid::regclass, pg_get_expr(p.polqual, p.polrelid)) FROM pg_policy p
  UNION ALL
  SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger t WHERE NOT t.tgisinternal
) AS lines ORDER BY line
