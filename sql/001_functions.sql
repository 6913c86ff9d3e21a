-- Procedures that the other files call. Most of them create a table or view, with its comments and related objects,
-- from one list of columns.
--
-- A list of columns is an array of [name, definition, comment]. Nothing here names a schema: the migration runner sets
-- the search path to the account's schema. Set it as well before you call a procedure by hand.

-- `columns` is an array of [name, …, comment].
CREATE PROCEDURE comment_on_columns(relation text, columns text[]) LANGUAGE plpgsql AS $$
DECLARE
    described text[];
BEGIN
    FOREACH described SLICE 1 IN ARRAY columns LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L',
            relation, described[1], described[array_upper(described, 1)]);
    END LOOP;
END
$$;
COMMENT ON PROCEDURE comment_on_columns IS 'Sets the comments on the columns of a table or view: the last entry of each item is the comment.';

CREATE PROCEDURE create_table(name text, comment text, columns text[], constraints text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (%s, %s)', name, (
        SELECT string_agg(format('%I %s', columns[place][1], columns[place][2]), ', ' ORDER BY place)
        FROM generate_subscripts(columns, 1) AS place
    ), constraints);
    EXECUTE format('COMMENT ON TABLE %I IS %L', name, comment);
    CALL comment_on_columns(name, columns);
END
$$;
COMMENT ON PROCEDURE create_table IS 'Creates a table with comments from a list of columns. The constraints are SQL.';

CREATE PROCEDURE comment_on_view(name text, comment text, columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('COMMENT ON VIEW %I IS %L', name, comment);
    CALL comment_on_columns(name, columns);
END
$$;
COMMENT ON PROCEDURE comment_on_view IS 'Sets the comments on a view and its columns, given as [name, comment].';

-- The table has the current state of each row, "…_superseded" the earlier states, and the view "…_history" has both.
CREATE PROCEDURE keep_history(name text, comment text) LANGUAGE plpgsql AS $$
DECLARE
    superseded text := name || '_superseded';
    key text := (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY array_position(indkey::int2[], attnum))
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = to_regclass(quote_ident(name)) AND indisprimary
    );
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING COMMENTS INCLUDING DEFAULTS)', superseded, name);
    EXECUTE format(
        'ALTER TABLE %1$I DROP observed_at, ADD valid_from timestamptz, ADD valid_to timestamptz NOT NULL, '
        'ADD PRIMARY KEY (%2$s, valid_from), ADD CONSTRAINT %3$I CHECK (valid_to > valid_from)',
        superseded, key, superseded || '_span');
    EXECUTE format('COMMENT ON TABLE %I IS %L', superseded, format(
        'Earlier states of %s: each was valid until a later observation replaced or removed it. Rows are only added.',
        name));
    CALL comment_on_columns(superseded, ARRAY[
        ['valid_from', 'When this state was first observed.'],
        ['valid_to', 'When the next state, or the absence of the row, was first observed.']
    ]);
    CALL create_history_view(name);
    EXECUTE format('COMMENT ON VIEW %I IS %L', name || '_history', comment);
END
$$;
COMMENT ON PROCEDURE keep_history IS 'Creates the table of a table''s earlier states, and the view over the earlier and the current states.';

-- A column that is added later comes after valid_to, as in the table of earlier states: CREATE OR REPLACE VIEW can add
-- columns only at the end.
CREATE PROCEDURE create_history_view(name text) LANGUAGE plpgsql AS $$
DECLARE
    earlier text;
    current text;
    comments text[];
BEGIN
    SELECT
        string_agg(quote_ident(attname), ', ' ORDER BY attnum),
        string_agg(CASE attname WHEN 'valid_from' THEN 'observed_at' WHEN 'valid_to' THEN 'NULL'
            ELSE quote_ident(attname) END, ', ' ORDER BY attnum),
        array_agg(ARRAY[attname::text, CASE attname
            WHEN 'valid_to' THEN 'When the next state was first observed; NULL for the current state.'
            ELSE col_description(attrelid, attnum) END] ORDER BY attnum)
    INTO earlier, current, comments
    FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(name || '_superseded')) AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('CREATE OR REPLACE VIEW %I AS SELECT %s FROM %I UNION ALL SELECT %s FROM %I',
        name || '_history', earlier, name || '_superseded', current, name);
    CALL comment_on_columns(name || '_history', comments);
END
$$;
COMMENT ON PROCEDURE create_history_view IS 'Creates or replaces the view over the current and the earlier states of a table.';

CREATE PROCEDURE create_as_of(name text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %I(moment timestamptz) RETURNS SETOF %I LANGUAGE sql STABLE BEGIN ATOMIC '
        'SELECT * FROM %2$I WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment); END',
        name || '_as_of', name || '_history');
    EXECUTE format('COMMENT ON FUNCTION %I IS %L', name || '_as_of',
        format('The rows of %s as they were known at that moment. Deleted rows are included, with deleted_at.', name));
END
$$;
COMMENT ON PROCEDURE create_as_of IS 'Creates or replaces the function that returns the rows of a table as they were known at a moment.';

CREATE PROCEDURE create_objects(name text, comment text, columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_table(name, comment, columns || ARRAY[
        ['raw', 'jsonb NOT NULL', 'The whole object as Klaviyo sends it: id, type, attributes and, where requested, '
            'the ids of its relationships. NUL characters and lone surrogates are stored as reversible escapes.'],
        ['observed_at', 'timestamptz NOT NULL', 'When this state was observed: the database''s clock, read before the '
            'request was sent.']
    ], 'PRIMARY KEY (id)');
END
$$;
COMMENT ON PROCEDURE create_objects IS 'Creates a table of Klaviyo''s objects with these columns, which must include id, and adds raw and observed_at.';

-- Names have hash indexes: a name may be too long for an entry of a btree index.
CREATE PROCEDURE create_entity(name text, noun text, columns text[], windowed boolean DEFAULT true) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_objects(name,
        format('The latest state of every %1$s, one row each. A deleted %1$s keeps its row.', noun),
        ARRAY[['id', 'text', format('Klaviyo''s id of the %s.', noun)]] || columns || ARRAY[
            ['created_at', 'timestamptz', 'When it was created, according to Klaviyo.'],
            ['updated_at', 'timestamptz', 'When it was last changed, according to Klaviyo. Archiving does not always change it.'],
            ['deleted_at', 'timestamptz', 'When it was first found deleted in Klaviyo; NULL while it exists.']
        ]);
    EXECUTE format('CREATE INDEX ON %I USING hash (name)', name);
    EXECUTE format('CREATE INDEX ON %I (created_at)', name);
    EXECUTE format('CREATE INDEX ON %I (updated_at)', name);
    EXECUTE format('CREATE INDEX ON %I (deleted_at) WHERE deleted_at IS NOT NULL', name);
    CALL keep_history(name, format(
        'Every state of every %s that a sync observed, including deletions and restorations. States that existed only '
        'between two syncs are missing.', noun));
    EXECUTE format('CREATE INDEX ON %I (valid_from)', name || '_superseded');
    CALL create_as_of(name);
    IF windowed THEN
        CALL register_asset(name, true);
    END IF;
END
$$;
COMMENT ON PROCEDURE create_entity IS 'Creates all relations of an entity: table, earlier states, history, as-of function, indexes, comments. Adds id, the times, raw and observed_at to the columns. An entity without sync windows is not in sync_status.';

CREATE PROCEDURE add_derived_column(name text, new_column text, type text, comment text) LANGUAGE plpgsql AS $$
DECLARE
    superseded text := name || '_superseded';
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY[name, superseded] LOOP
        CONTINUE WHEN to_regclass(quote_ident(relation)) IS NULL;
        EXECUTE format('ALTER TABLE %I ADD %I %s', relation, new_column, type);
        CALL comment_on_columns(relation, ARRAY[[new_column, comment]]);
    END LOOP;
    IF to_regclass(quote_ident(superseded)) IS NOT NULL THEN
        CALL create_history_view(name);
    END IF;
    IF to_regprocedure(format('%I(timestamptz)', name || '_as_of')) IS NOT NULL THEN
        CALL create_as_of(name);
    END IF;
END
$$;
COMMENT ON PROCEDURE add_derived_column IS 'Adds a column to a table of objects, to its earlier states and to its history. It is NULL until the next sync.';

-- The column is filled from raw in the same way as `klaviyo_pipeline.klaviyo.records` reads an answer, so that the next
-- sync finds no differences.
CREATE PROCEDURE add_column(name text, new_column text, type text, path text, comment text) LANGUAGE plpgsql AS $$
DECLARE
    relation text;
BEGIN
    IF coalesce(type, '') NOT IN ('text', 'boolean', 'timestamptz', 'jsonb') OR path IS NULL OR comment IS NULL THEN
        RAISE 'add_column needs a type (text, boolean, timestamptz or jsonb), the path of an attribute, and a comment';
    END IF;
    CALL add_derived_column(name, new_column, type, comment);
    FOREACH relation IN ARRAY ARRAY[name, name || '_superseded'] LOOP
        CONTINUE WHEN to_regclass(quote_ident(relation)) IS NULL;
        EXECUTE format('UPDATE %1$I SET %2$I = %3$I(raw, %4$L) WHERE %3$I(raw, %4$L) IS NOT NULL',
            relation, new_column, 'attribute_' || type, path);
    END LOOP;
END
$$;
COMMENT ON PROCEDURE add_column IS 'Adds a column to a table of objects, to its earlier states and to its history, and fills it from raw. The path is the same as in the Column of the Python declaration: the name of an attribute, or the names from the outer to the nested attribute, separated by dots.';

CREATE FUNCTION attribute_jsonb(raw jsonb, path text) RETURNS jsonb LANGUAGE sql IMMUTABLE BEGIN ATOMIC
    SELECT nullif(raw #> (ARRAY['attributes'] || string_to_array(path, '.')), 'null');
END;
COMMENT ON FUNCTION attribute_jsonb IS 'The attribute at this path of a raw object; NULL if it is absent or null.';

CREATE FUNCTION attribute_text(raw jsonb, path text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC
    SELECT CASE jsonb_typeof(attribute_jsonb(raw, path)) WHEN 'string' THEN attribute_jsonb(raw, path) #>> '{}' END;
END;
COMMENT ON FUNCTION attribute_text IS 'The attribute at this path of a raw object; NULL unless it is a string.';

CREATE FUNCTION attribute_boolean(raw jsonb, path text) RETURNS boolean LANGUAGE sql IMMUTABLE BEGIN ATOMIC
    SELECT CASE jsonb_typeof(attribute_jsonb(raw, path)) WHEN 'boolean' THEN attribute_jsonb(raw, path)::boolean END;
END;
COMMENT ON FUNCTION attribute_boolean IS 'The attribute at this path of a raw object; NULL unless it is true or false.';

-- A time without an offset is UTC. Digits beyond microseconds are cut off, not rounded.
CREATE FUNCTION attribute_timestamptz(raw jsonb, path text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET timezone TO 'UTC' AS $$
DECLARE
    written text := attribute_text(raw, path);
BEGIN
    RETURN CASE WHEN written ~ '^\s*\d{4}-\d\d-\d\d' THEN regexp_replace(written, '([.,]\d{6})\d+', '\1')::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION attribute_timestamptz IS 'The attribute at this path of a raw object; NULL unless it is a time.';

-- The assets with sync windows, in the order of sync_status. The views of the sync status read them from this table.
CALL create_table('assets', 'The assets that are synced by window, one row each. The procedures that create their tables add the rows.', ARRAY[
    ['entity', 'text', 'The asset''s table, such as flows or flow_report.'],
    ['position', 'integer NOT NULL UNIQUE', 'Its position in sync_status.'],
    ['by_sync_window', 'boolean NOT NULL', 'Whether its windows have the account''s length (daily or hourly). The windows of reports and metrics are days, weeks or months.'],
    ['period', 'text NOT NULL DEFAULT ''day'' CHECK (period IN (''day'', ''week'', ''month''))', 'How long the windows of a report or a metrics table are. Weeks begin on Monday.'],
    ['is_on', 'boolean NOT NULL DEFAULT true', 'Whether KLAVIYO_ASSETS switched the asset on at the last sync or migrate. The views leave out assets that are off.']
], 'PRIMARY KEY (entity)');

CREATE PROCEDURE create_asset_rows() LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW asset_rows AS '
        'SELECT counted.entity, counted.row_count FROM (%s) AS counted '
        'JOIN assets ON assets.entity = counted.entity AND assets.is_on',
        (
            SELECT string_agg(format('SELECT %L::text AS entity, count(*) %s AS row_count FROM %I',
                entity, CASE WHEN by_sync_window THEN 'FILTER (WHERE deleted_at IS NULL)' END, entity),
                ' UNION ALL ' ORDER BY position)
            FROM assets
        ));
    CALL comment_on_view('asset_rows', 'How many rows each asset''s table has.', ARRAY[
        ['entity', 'The asset''s table.'],
        ['row_count', 'Rows in the table, without deleted objects.']
    ]);
END
$$;
COMMENT ON PROCEDURE create_asset_rows IS 'Creates or replaces the view with the number of rows of each asset that is on.';

CREATE PROCEDURE register_asset(name text, windowed boolean, period text DEFAULT 'day') LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO assets (entity, position, by_sync_window, period)
    SELECT name, coalesce(max(position), 0) + 1, windowed, register_asset.period FROM assets;
    CALL create_asset_rows();
END
$$;
COMMENT ON PROCEDURE register_asset IS 'Adds an asset to expected_windows and sync_status.';
