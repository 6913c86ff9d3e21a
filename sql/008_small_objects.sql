-- Which assets an account has: the setting KLAVIYO_ASSETS.

ALTER TABLE assets ADD is_on boolean NOT NULL DEFAULT true;
CALL comment_on_columns('assets', ARRAY[
    ['is_on', 'Whether KLAVIYO_ASSETS switched the asset on at the last sync or migrate. The views leave out assets that are off.']
]);

CREATE OR REPLACE PROCEDURE register_asset(name text, windowed boolean) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO assets (entity, position, by_sync_window)
    SELECT name, coalesce(max(position), 0) + 1, windowed FROM assets;
    CALL create_asset_rows();
END
$$;

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
CALL create_asset_rows();

-- As before, without the assets that are off.
CREATE OR REPLACE VIEW expected_windows AS
SELECT
    asset.entity,
    span.window_start,
    span.window_end
FROM account
JOIN assets AS asset ON asset.is_on
CROSS JOIN LATERAL (
    SELECT
        edge AS window_start,
        lead(edge) OVER (ORDER BY edge) AS window_end
    FROM (
        SELECT generate_series(
            account.start_date::timestamp AT TIME ZONE account.window_timezone,
            now(),
            interval '1 hour'
        ) AS edge
        WHERE asset.by_sync_window AND account.sync_window = 'hourly'
        UNION ALL
        -- The first of two midnights, if the clocks go back over midnight.
        SELECT least(
            day AT TIME ZONE account.window_timezone,
            (day - interval '1 hour') AT TIME ZONE account.window_timezone + interval '1 hour'
        )
        FROM generate_series(
            account.start_date::timestamp,
            (now() AT TIME ZONE account.window_timezone)::date + interval '1 day',
            interval '1 day'
        ) AS day
        WHERE NOT (asset.by_sync_window AND account.sync_window = 'hourly')
    ) AS edges
) AS span
WHERE span.window_end <= now();

-- Lists, metrics, templates and form versions. Metrics and form versions have no sync windows: only a full listing.

CREATE PROCEDURE create_entity(name text, noun text, columns text[], windowed boolean) LANGUAGE plpgsql AS $$
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
COMMENT ON PROCEDURE create_entity(text, text, text[], boolean) IS 'Creates all relations of an entity: table, earlier states, history, as-of function, indexes, comments. Adds id, the times, raw and observed_at to the columns. An entity without sync windows is not in sync_status.';

CREATE OR REPLACE PROCEDURE create_entity(name text, noun text, columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_entity(name, noun, columns, true);
END
$$;

CALL create_entity('lists', 'list', ARRAY[
    ['name', 'text', 'Name; NULL where Klaviyo has none.'],
    ['opt_in_process', 'text', 'double_opt_in or single_opt_in; NULL where Klaviyo has none.']
]);

CALL create_entity('templates', 'template', ARRAY[
    ['name', 'text', 'Name.'],
    ['editor_type', 'text', 'The editor: SYSTEM_DRAGGABLE (drag and drop), SIMPLE (rich text), CODE (HTML) or USER_DRAGGABLE (HTML in the drag-and-drop editor).']
]);

CALL create_entity('metrics', 'metric', ARRAY[
    ['name', 'text', 'Name, such as Placed Order. Names change and can repeat: join by id.'],
    ['integration_name', 'text', 'The integration that sends its events, such as Shopify; NULL where Klaviyo has none.'],
    ['integration_category', 'text', 'The kind of integration, such as eCommerce; NULL where Klaviyo has none.']
], false);

CALL create_entity('form_versions', 'form version', ARRAY[
    ['name', 'text', 'Name of the variation.'],
    ['form_id', 'text', 'The form.'],
    ['form_type', 'text', 'banner, embed, flyout, full_page or popup.'],
    ['status', 'text', 'draft or live.'],
    ['ab_test', 'jsonb', 'The A/B test that the version is part of, with its variation_name; NULL without a test.']
], false);
CREATE INDEX ON form_versions (form_id);

-- Off until KLAVIYO_ASSETS names them.
UPDATE assets SET is_on = false WHERE entity IN ('lists', 'templates');
