-- Check plpgsql: the language is there.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'no language plpgsql',
       'language plpgsql',
       'CREATE EXTENSION plpgsql in this database: the copy uses it.'
  FROM p
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_language
                    WHERE lanname = 'plpgsql')
