-- Two roles for one account: a writer, which owns what the pipeline creates, and a reader for analysts.
--
--   PGOPTIONS='-c klaviyo.account=klaviyo' psql "postgresql://admin@host/warehouse" -f deploy/roles.sql
--
-- Set klaviyo.account to the value of KLAVIYO_ACCOUNT (default: klaviyo). Run this script in the warehouse's database
-- before the first sync, as a superuser, or as the database's owner with CREATEROLE. You can run it again. It sets no
-- passwords: use `\password klaviyo_writer`, which does not write the password to a log.
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
    -- Only a member of a role may create objects that this role owns.
    IF NOT pg_has_role(current_user, writer, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', writer);
    END IF;

    -- Batches are copied into temporary tables before they are merged.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), writer);
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', account, writer);
    -- Dagster's runs and events have their own schema, because the role may not create a database.
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS dagster AUTHORIZATION %I', writer);

    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', account, reader);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', account, reader);
    -- The reader may also read the tables of later migrations.
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO %I', writer, account, reader);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', reader);
END
$$;
