-- The statements that every session on a node starts with. Nothing that a statement holds
-- may be written to the node's log, since DSNs are among the parameters.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET search_path = '';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET timezone = 'UTC';
SET bytea_output = 'hex';
SET extra_float_digits = 3;
SET standard_conforming_strings = on;
SET quote_all_identifiers = off;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET idle_session_timeout = 0;
SET default_transaction_read_only = off;
SET synchronous_commit = local;
SET default_transaction_isolation = 'read committed';
SET client_min_messages = warning;
-- what is asked is small, however large the planner takes it to be
SET jit = off;
SELECT pg_catalog.set_config(name, '0', false)
  FROM pg_catalog.pg_settings
 WHERE name = 'transaction_timeout';
-- these take a superuser, which the joins need anyway and the checks ask for
SELECT pg_catalog.set_config(name, value, false)
  FROM pg_catalog.pg_roles,
       (VALUES ('log_statement', 'none'),
               ('log_min_error_statement', 'panic'),
               ('log_min_duration_statement', '-1'),
               ('log_min_duration_sample', '-1'),
               ('log_parameter_max_length', '0'),
               ('log_parameter_max_length_on_error', '0'),
               ('log_transaction_sample_rate', '0')) AS pins(name, value)
 WHERE rolname = current_user
   AND rolsuper
