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
