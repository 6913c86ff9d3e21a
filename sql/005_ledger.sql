-- What was requested from Klaviyo, when, and what it returned: the account, the ledger of the sync windows, the
-- censuses, and the views of the sync status.
--
-- In the ledger, the windows of a report's first conversion metric have the report's name. The windows of each further
-- metric have the report's name, a colon and the metric's id, such as flow_report:WXyz12.

CALL create_table('account', 'The Klaviyo account of this schema, and how its time is divided into sync windows. One row.', ARRAY[
    ['singleton', 'boolean DEFAULT true CHECK (singleton)', 'Keeps the table at one row.'],
    ['account_id', 'text NOT NULL', 'Klaviyo''s id of the account; a key of another account is refused.'],
    ['timezone', 'text NOT NULL', 'The account''s time zone, as Klaviyo states it: the days of reports are in this zone.'],
    ['currency', 'text', 'The account''s preferred currency, as Klaviyo states it.'],
    ['window_timezone', 'text NOT NULL', 'The time zone of the sync windows.'],
    ['sync_window', 'text NOT NULL CHECK (sync_window IN (''daily'', ''hourly''))', 'Length of an entity''s sync windows: daily or hourly. The windows of reports and metrics are days, weeks or months.'],
    ['start_date', 'date NOT NULL', 'The first day that is synced.'],
    ['attribution_days', 'integer NOT NULL DEFAULT 5', 'For how many days after a day has ended Klaviyo may still change the values of that day. It is a setting, because Klaviyo''s API does not return it.'],
    ['conversion_metric_id', 'text', 'The conversion metric of the latest report requests: the first one, if several are set.'],
    ['verified_at', 'timestamptz NOT NULL', 'When Klaviyo last confirmed which account the key belongs to.']
], 'PRIMARY KEY (singleton)');

CALL create_table('sync_windows', 'The ledger: one row per asset and sync window. The row of a synced window was written in the same transaction as the last rows of the window. If the window has no rows, rows_fetched is 0.', ARRAY[
    ['entity', 'text', 'The asset''s table, such as flows or flow_report. For a further conversion metric of a report: the table, a colon and the metric''s id.'],
    ['window_start', 'timestamptz', 'Start of the window, inclusive.'],
    ['window_end', 'timestamptz NOT NULL', 'End of the window, exclusive.'],
    ['status', 'text NOT NULL CHECK (status IN (''synced'', ''failed''))', 'synced: the table has all rows of the window; for an entity, every object whose updated time was in the window when it was requested. failed: the last attempt failed and the window was never synced, or a check found that the table lacks rows of it.'],
    ['asked_at', 'timestamptz', 'When the attempt that synced the window sent its first request; for metrics, the time of the report''s request. A window that was requested before its end is requested again.'],
    ['rows_fetched', 'bigint NOT NULL DEFAULT 0', 'Rows that the last successful attempt received for this window.'],
    ['rows_inserted', 'bigint NOT NULL DEFAULT 0', 'Received rows that were new.'],
    ['rows_updated', 'bigint NOT NULL DEFAULT 0', 'Received rows that differed from the table.'],
    ['rows_unchanged', 'bigint NOT NULL DEFAULT 0', 'Received rows that the table already had, in the same state or from a later observation.'],
    ['rows_deleted', 'bigint NOT NULL DEFAULT 0', 'Reports: rows that were deleted because the answer no longer had them. A day is replaced as a whole.'],
    ['requests', 'integer NOT NULL DEFAULT 0', 'Requests to Klaviyo. A request that covers many windows is counted on the first of them, so that you can sum the column.'],
    ['attempts', 'integer NOT NULL DEFAULT 0', 'How often the window was requested, failed attempts included.'],
    ['run_id', 'text', 'The Dagster run that synced the window; if it was never synced, the run that failed last.'],
    ['started_at', 'timestamptz', 'When the run of run_id began to sync the asset.'],
    ['finished_at', 'timestamptz', 'When the run of run_id finished the window.'],
    ['error', 'text', 'Why the last attempt failed; NULL if it succeeded.'],
    ['conversion_metric_id', 'text', 'Reports: the conversion metric of the request. Metrics tables: NULL.'],
    ['account_timezone', 'text', 'Reports: the account''s time zone at the time of the request.'],
    ['account_currency', 'text', 'Reports: the account''s currency at the time of the request.'],
    ['refused_statistics', 'text[] NOT NULL DEFAULT ''{}''', 'Reports: the statistics that Klaviyo refused for the metric; they are NULL in the rows of the window.']
], 'PRIMARY KEY (entity, window_start), CHECK (window_end > window_start), CHECK (status <> ''synced'' OR asked_at IS NOT NULL)');
CREATE INDEX sync_windows_status_idx ON sync_windows (entity, status, window_start);

CALL create_table('census_runs', 'Full listings of an entity or of the tags, one row each, with the number of objects that the sync windows had missed.', ARRAY[
    ['entity', 'text', 'The table of the listed objects, such as flows or tags.'],
    ['started_at', 'timestamptz', 'When the first request was sent.'],
    ['finished_at', 'timestamptz', 'When the census ended.'],
    ['status', 'text NOT NULL CHECK (status IN (''complete'', ''failed''))', 'complete: the listings were read to the end, and every stored object that they lacked was requested by id. failed: nothing was marked deleted.'],
    ['rows_listed', 'bigint NOT NULL DEFAULT 0', 'Objects in the listings.'],
    ['rows_inserted', 'bigint NOT NULL DEFAULT 0', 'Objects that the table lacked.'],
    ['rows_updated', 'bigint NOT NULL DEFAULT 0', 'Objects that differed from the table: archived or restored objects, and missed changes.'],
    ['rows_unchanged', 'bigint NOT NULL DEFAULT 0', 'Objects that the table already had in the same state.'],
    ['rows_deleted', 'bigint NOT NULL DEFAULT 0', 'Objects that no longer exist in Klaviyo: it answered 404 for their id.'],
    ['requests', 'integer NOT NULL DEFAULT 0', 'Requests to Klaviyo.'],
    ['run_id', 'text', 'Id of the Dagster run.'],
    ['error', 'text', 'Why the census failed; NULL if it is complete.'],
    ['revision', 'text', 'Revision of the API at which a census of campaigns was read; NULL for an entity that all revisions list in the same way.']
], 'PRIMARY KEY (entity, started_at)');

CALL create_table('lookup_misses', 'Cached 404s: ids that did not exist in Klaviyo. They are not requested again for a day.', ARRAY[
    ['entity', 'text', 'The entity''s table, such as flows.'],
    ['id', 'text', 'The id that was requested.'],
    ['missed_at', 'timestamptz NOT NULL', 'When Klaviyo answered 404.']
], 'PRIMARY KEY (entity, id)');

-- For some conversion metrics, Klaviyo refuses some statistics of a report. The other statistics are stored.
CALL create_table('conversion_refusals', 'Which statistics Klaviyo refuses for a conversion metric, by report. A refusal holds for 20 hours; then all statistics are requested again.', ARRAY[
    ['report', 'text', 'Klaviyo''s report, such as "flow series".'],
    ['metric_id', 'text', 'The conversion metric of the request.'],
    ['statistics', 'text[] NOT NULL', 'The refused statistics, by Klaviyo''s name: all statistics of the report if the metric has no values at all.'],
    ['refused_at', 'timestamptz NOT NULL', 'When Klaviyo refused them.']
], 'PRIMARY KEY (report, metric_id)');

-- The open window is not expected yet. The first week and month may begin before the start date. Assets whose windows
-- have the same length have the same windows, so the windows are computed once for each length.
CREATE VIEW expected_windows AS
SELECT
    asset.entity,
    span.window_start,
    span.window_end
FROM (
    SELECT
        edges.unit,
        edges.sync_window,
        edges.edge AS window_start,
        lead(edges.edge) OVER (PARTITION BY edges.unit ORDER BY edges.edge) AS window_end
    FROM (
        SELECT
            'hour' AS unit,
            account.sync_window,
            generate_series(
                account.start_date::timestamp AT TIME ZONE account.window_timezone,
                now(),
                interval '1 hour'
            ) AS edge
        -- The table has one row. The limit makes this known to the planner.
        FROM (SELECT * FROM account LIMIT 1) AS account
        WHERE account.sync_window = 'hourly'
        UNION ALL
        -- A day begins at the first of two midnights, if the clocks go back over midnight.
        SELECT
            length.unit,
            account.sync_window,
            least(
                day AT TIME ZONE account.window_timezone,
                (day - interval '1 hour') AT TIME ZONE account.window_timezone + interval '1 hour'
            )
        FROM (SELECT * FROM account LIMIT 1) AS account
        CROSS JOIN (VALUES ('day'), ('week'), ('month')) AS length (unit)
        CROSS JOIN LATERAL generate_series(
            date_trunc(length.unit, account.start_date::timestamp),
            date_trunc(length.unit, now() AT TIME ZONE account.window_timezone) + ('1 ' || length.unit)::interval,
            ('1 ' || length.unit)::interval
        ) AS day
    ) AS edges
) AS span
JOIN assets AS asset
    ON asset.is_on
    AND CASE
        WHEN asset.by_sync_window AND span.sync_window = 'hourly' THEN span.unit = 'hour'
        ELSE span.unit = asset.period
    END
WHERE span.window_end <= now();
CALL comment_on_view('expected_windows', 'Every sync window that has ended, from the start date until now, for each asset.', ARRAY[
    ['entity', 'The asset''s table.'],
    ['window_start', 'Start of the window, inclusive.'],
    ['window_end', 'End of the window, exclusive.']
]);

-- A window is done when it is synced and was requested at least 5 seconds after its end: Klaviyo refuses requests for
-- the last few seconds. Failed windows before the start date are left out: once the start date was moved to a later
-- day, no sync requests them again.
CREATE VIEW window_states AS
SELECT
    coalesce(ledger.entity, expected.entity) AS entity,
    coalesce(ledger.window_start, expected.window_start) AS window_start,
    coalesce(ledger.window_end, expected.window_end) AS window_end,
    coalesce(
        CASE
            WHEN ledger.status = 'synced' AND ledger.asked_at < ledger.window_end + interval '5 seconds' THEN 'open'
            ELSE ledger.status
        END,
        'missing'
    ) AS state,
    expected.entity IS NOT NULL AS has_ended,
    ledger.asked_at,
    ledger.finished_at,
    ledger.error
FROM expected_windows AS expected
FULL JOIN sync_windows AS ledger
    ON ledger.entity = expected.entity AND ledger.window_start = expected.window_start
WHERE ledger.status IS DISTINCT FROM 'failed' OR ledger.window_end > coalesce(
    (SELECT start_date::timestamp AT TIME ZONE window_timezone FROM account LIMIT 1), '-infinity'
);
CALL comment_on_view('window_states', 'Every window that is expected or in the ledger, except failed windows before the start date. Each is synced, failed, missing, or open (synced before its end, so it is requested again).', ARRAY[
    ['entity', 'The asset''s table.'],
    ['window_start', 'Start of the window, inclusive.'],
    ['window_end', 'End of the window, exclusive.'],
    ['state', 'synced, failed, missing or open.'],
    ['has_ended', 'Whether the window has ended.'],
    ['asked_at', 'When the attempt that synced the window sent its first request.'],
    ['finished_at', 'When the attempt that synced the window ended; if it was never synced, when the last attempt failed.'],
    ['error', 'Why the last attempt failed; NULL if it succeeded.']
]);

-- A requested day of a report has a row here, with or without values; a day that was never requested has none. If
-- several conversion metrics are set, the rows are those of the first, from which the metrics tables are computed.
CREATE VIEW report_days AS
SELECT
    ledger.entity,
    (ledger.window_start AT TIME ZONE account.window_timezone)::date AS date,
    ledger.asked_at,
    ledger.rows_fetched,
    ledger.conversion_metric_id,
    ledger.asked_at >= ledger.window_end + account.attribution_days * interval '1 day' AS is_settled,
    ledger.refused_statistics
FROM sync_windows AS ledger
CROSS JOIN account
WHERE (ledger.entity LIKE '%\_report' OR ledger.entity LIKE '%\_report\_by\_%' OR ledger.entity = 'conversions_daily')
    AND ledger.entity NOT LIKE '%:%'
    AND ledger.status = 'synced';
CALL comment_on_view('report_days', 'Every day for which a daily report was synced: the time of the last successful request, the number of rows, and whether they are final.', ARRAY[
    ['entity', 'The report''s table.'],
    ['date', 'Day, in the account''s time zone.'],
    ['asked_at', 'When the last successful request for the day was sent.'],
    ['rows_fetched', 'Rows of the report and the metric; 0 if the day was requested and had none.'],
    ['conversion_metric_id', 'The conversion metric of the request: the first one, if several are set.'],
    ['is_settled', 'Whether the attribution window of the day had closed when it was last requested.'],
    ['refused_statistics', 'Statistics that Klaviyo refused for the metric; they are NULL in the rows of the day.']
]);

CREATE VIEW first_metrics AS
SELECT DISTINCT ON (entity) entity, conversion_metric_id
FROM sync_windows
WHERE status = 'synced' AND conversion_metric_id IS NOT NULL AND entity NOT LIKE '%:%'
ORDER BY entity, window_start DESC;
CALL comment_on_view('first_metrics', 'For each report, its conversion metric: the first one, if several are set. Metrics tables are computed from the rows of this metric. Join the view where you sum rows of a report, so that you count only one metric.', ARRAY[
    ['entity', 'The report''s table.'],
    ['conversion_metric_id', 'The metric''s id.']
]);

-- The windows' states are computed once, for all assets together. The other parts are materialized too: if the planner
-- computed them once for each window, they would take minutes.
CREATE VIEW sync_status AS
WITH states AS MATERIALIZED (
    SELECT * FROM window_states
),
begun AS MATERIALIZED (
    SELECT entity, min(window_start) AS since
    FROM states
    WHERE state IN ('synced', 'open')
    GROUP BY entity
),
-- For each asset, the first window that is not done, from its earliest synced or open window on. synced_through does
-- not go beyond this window.
broken AS MATERIALIZED (
    SELECT gap.entity, min(gap.window_start) AS at
    FROM states AS gap
    JOIN begun ON begun.entity = gap.entity AND gap.window_start >= begun.since
    WHERE gap.state <> 'synced'
    GROUP BY gap.entity
),
counted AS MATERIALIZED (
    SELECT
        w.entity,
        max(w.finished_at) FILTER (WHERE w.state IN ('synced', 'open')) AS last_synced_at,
        count(*) FILTER (WHERE w.state IN ('synced', 'open')) AS windows_synced,
        count(*) FILTER (WHERE w.state = 'failed') AS windows_failed,
        count(*) FILTER (WHERE w.has_ended AND w.state IN ('missing', 'open')) AS windows_missing,
        (array_agg(w.error ORDER BY w.finished_at DESC) FILTER (WHERE w.error IS NOT NULL))[1] AS last_error,
        max(least(w.window_end, w.asked_at)) FILTER (
            WHERE w.state IN ('synced', 'open') AND w.window_start <= coalesce(broken.at, 'infinity')
        ) AS synced_through
    FROM states AS w
    LEFT JOIN broken ON broken.entity = w.entity
    GROUP BY w.entity
)
SELECT
    asset.entity,
    CASE
        WHEN counted.windows_failed > 0 THEN 'failed'
        WHEN coalesce(counted.windows_synced, 0) = 0 THEN 'never synced'
        WHEN counted.windows_missing > 0 THEN 'behind'
        ELSE 'synced'
    END AS status,
    counted.last_synced_at,
    counted.synced_through,
    coalesce(counted.windows_synced, 0) AS windows_synced,
    coalesce(counted.windows_failed, 0) AS windows_failed,
    coalesce(counted.windows_missing, 0) AS windows_missing,
    rows.row_count,
    counted.last_error
FROM assets AS asset
JOIN asset_rows AS rows ON rows.entity = asset.entity
LEFT JOIN counted ON counted.entity = asset.entity
ORDER BY asset.position;
CALL comment_on_view('sync_status', 'One row per asset: how far it is synced, which windows are missing, and which failed.', ARRAY[
    ['entity', 'The asset''s table.'],
    ['status', 'synced, behind (ended windows are missing), failed (the last attempt at a window failed) or never synced.'],
    ['last_synced_at', 'When a window was last synced.'],
    ['synced_through', 'Everything from the earliest synced window up to this time is synced, without a gap.'],
    ['windows_synced', 'Synced windows, including windows that were requested before their end.'],
    ['windows_failed', 'Windows with the status failed in sync_windows, except windows before the start date.'],
    ['windows_missing', 'Windows that have ended and were never synced, or were last requested before their end. Failed windows are not counted.'],
    ['row_count', 'Rows in the table, without deleted objects.'],
    ['last_error', 'The newest error that no later success has cleared.']
]);

-- Which days are covered. If a day is covered and the asset's table has no rows for it, Klaviyo has none.
CREATE FUNCTION days_covered(asset text, first_day date, last_day date)
RETURNS TABLE (
    date date,
    state text,
    is_covered boolean
)
LANGUAGE sql STABLE BEGIN ATOMIC
    WITH windows AS MATERIALIZED (
        -- A week or a month has several days, and a day several hours.
        SELECT
            covered.day::date AS day,
            w.state,
            w.window_end,
            account.window_timezone AS zone
        FROM window_states AS w
        CROSS JOIN account
        CROSS JOIN LATERAL generate_series(
            date_trunc('day', w.window_start AT TIME ZONE account.window_timezone),
            greatest(w.window_start, w.window_end - interval '1 microsecond') AT TIME ZONE account.window_timezone,
            interval '1 day'
        ) AS covered (day)
        WHERE w.entity = days_covered.asset
    ),
    days AS (
        SELECT
            one.day::date AS day,
            CASE
                -- An asset may have no windows yet, for example a monthly one in the account's first month. A report's
                -- further conversion metrics have windows, but are not in the table of assets.
                WHEN NOT EXISTS (SELECT FROM windows)
                    AND NOT EXISTS (SELECT FROM assets WHERE entity = days_covered.asset AND is_on) THEN 'unknown asset'
                WHEN bool_or(windows.state = 'failed') THEN 'failed'
                WHEN count(windows.state) = 0 OR bool_or(windows.state = 'missing') THEN 'missing'
                -- Some hours of the day may have ended, and others not.
                WHEN bool_or(windows.state = 'open')
                    OR max(windows.window_end) < (one.day + interval '1 day') AT TIME ZONE max(windows.zone) THEN 'open'
                ELSE 'synced'
            END AS state
        FROM generate_series(days_covered.first_day::timestamp, days_covered.last_day::timestamp, interval '1 day') AS one (day)
        LEFT JOIN windows ON windows.day = one.day::date
        GROUP BY one.day
    )
    SELECT days.day, days.state, days.state = 'synced' FROM days ORDER BY days.day;
END;
COMMENT ON FUNCTION days_covered(text, date, date) IS 'Each day from first_day to last_day, both included, and whether the asset (such as flow_metrics) covers it. is_covered is true for a day that was synced after its end. state is synced, open (synced before the day ended), missing (never requested), failed, or unknown asset. Use it together with flow_metrics_between, which counts a day that is not covered as a day without values.';
