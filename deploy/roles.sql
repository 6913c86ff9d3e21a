-- Two roles for one account: a writer, which owns what the pipeline makes, and a reader for analysts.
--
--   PGOPTIONS='-c klaviyo.account=klaviyo' psql "postgresql://admin@host/warehouse" -f deploy/roles.sql
--
-- klaviyo.account is what KLAVIYO_ACCOUNT says (klaviyo, if left out). Run it in the warehouse's database before the
-- first sync, as a superuser, or as the database's owner with CREATEROLE. It can be run again. It sets no password:
-- `\password klaviyo_writer` does, without writing it to a log.
DO $$
DECLARE
    account text := coalesce(nullif(current_setting('klaviyo.account', true), ''), 'klaviyo');
    writer text := account || '_writer';
    reader text := account || '_reader';
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[writer, reader] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;
    -- Only a member may make something in another role's name.
    IF NOT pg_has_role(current_user, writer, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', writer);
    END IF;

    -- Batches are copied into temporary tables before they are merged.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), writer);
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', account, writer);
    -- Dagster's runs and events: in a schema of their own, since the role may not create a database.
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION %I', writer);

    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', account, reader);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', account, reader);
    -- What later migrations make is readable too.
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I', writer, account, reader);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', reader);
END
$$;
