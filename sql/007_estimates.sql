-- The planner estimates a table that was never analyzed by its size on disk, at least ten pages: hundreds of accounts
-- and a thousand assets. Multiplied with each other they seemed to be millions of windows, for which Postgres compiles
-- a query before it runs it (jit). Autovacuum never visits tables of so few rows.
ANALYZE assets;

-- The windows are the same for all assets of a kind, so they are computed once for each kind.
CREATE OR REPLACE VIEW expected_windows AS
SELECT
    asset.entity,
    span.window_start,
    span.window_end
FROM (
    SELECT
        edges.is_hourly,
        edges.sync_window,
        edges.edge AS window_start,
        lead(edges.edge) OVER (PARTITION BY edges.is_hourly ORDER BY edges.edge) AS window_end
    FROM (
        SELECT
            true AS is_hourly,
            account.sync_window,
            generate_series(
                account.start_date::timestamp AT TIME ZONE account.window_timezone,
                now(),
                interval '1 hour'
            ) AS edge
        -- The table has one row. The limit tells the planner.
        FROM (SELECT * FROM account LIMIT 1) AS account
        WHERE account.sync_window = 'hourly'
        UNION ALL
        -- The first of two midnights, if the clocks go back over midnight.
        SELECT
            false,
            account.sync_window,
            least(
                day AT TIME ZONE account.window_timezone,
                (day - interval '1 hour') AT TIME ZONE account.window_timezone + interval '1 hour'
            )
        FROM (SELECT * FROM account LIMIT 1) AS account
        CROSS JOIN generate_series(
            account.start_date::timestamp,
            (now() AT TIME ZONE account.window_timezone)::date + interval '1 day',
            interval '1 day'
        ) AS day
    ) AS edges
) AS span
JOIN assets AS asset ON span.is_hourly = (asset.by_sync_window AND span.sync_window = 'hourly')
WHERE span.window_end <= now();
