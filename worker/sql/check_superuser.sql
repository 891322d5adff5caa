-- Check superuser: the role that we are is one.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'role ' || current_user,
       'a superuser',
       'Use a DSN with a superuser: positions are set by functions that only they may call.'
  FROM p
 WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
