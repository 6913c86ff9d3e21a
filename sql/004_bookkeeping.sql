-- What was asked, when, and what came: the account, the ledger, the censuses, and what the pacing remembers.

CREATE TABLE account (
    singleton             boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    account_id            text NOT NULL,
    timezone              text NOT NULL,
    currency              text,
    window_timezone       text NOT NULL,
    sync_window           text NOT NULL CHECK (sync_window IN ('daily', 'hourly')),
    start_date            date NOT NULL,
    attribution_days      integer NOT NULL DEFAULT 5,
    conversion_metric_id  text,
    ineligible_metric_ids text[] NOT NULL DEFAULT '{}',
    verified_at           timestamptz NOT NULL
);
COMMENT ON TABLE account IS 'The one Klaviyo account that this schema holds, and how its time is cut into windows.';
COMMENT ON COLUMN account.singleton IS 'Keeps the table at one row.';
COMMENT ON COLUMN account.account_id IS 'Klaviyo''s id of the account; a key of another account is refused.';
COMMENT ON COLUMN account.timezone IS 'The account''s own time zone, as Klaviyo states it: report days are days there.';
COMMENT ON COLUMN account.currency IS 'The account''s preferred currency, as Klaviyo states it.';
COMMENT ON COLUMN account.window_timezone IS 'The time zone that the sync windows are cut in.';
COMMENT ON COLUMN account.sync_window IS 'How long an entity''s sync window is: daily or hourly. Report windows are days.';
COMMENT ON COLUMN account.start_date IS 'The day of the first sync window.';
COMMENT ON COLUMN account.attribution_days IS 'For how many days after it a report day may still change, as configured: no call tells it.';
COMMENT ON COLUMN account.conversion_metric_id IS 'The conversion metric that reports were last asked with.';
COMMENT ON COLUMN account.ineligible_metric_ids IS 'Metrics that Klaviyo computes no report figures for, as it said when asked; they are passed over.';
COMMENT ON COLUMN account.verified_at IS 'When Klaviyo last said whose key this is.';

CREATE TABLE sync_windows (
    entity                text NOT NULL,
    window_start          timestamptz NOT NULL,
    window_end            timestamptz NOT NULL,
    status                text NOT NULL CHECK (status IN ('synced', 'failed')),
    asked_at              timestamptz,
    rows_fetched          bigint NOT NULL DEFAULT 0,
    rows_inserted         bigint NOT NULL DEFAULT 0,
    rows_updated          bigint NOT NULL DEFAULT 0,
    rows_unchanged        bigint NOT NULL DEFAULT 0,
    rows_deleted          bigint NOT NULL DEFAULT 0,
    requests              integer NOT NULL DEFAULT 0,
    attempts              integer NOT NULL DEFAULT 0,
    run_id                text,
    started_at            timestamptz,
    finished_at           timestamptz,
    error                 text,
    conversion_metric_id  text,
    account_timezone      text,
    account_currency      text,
    PRIMARY KEY (entity, window_start),
    CHECK (window_end > window_start),
    CHECK (status <> 'synced' OR asked_at IS NOT NULL)
);
COMMENT ON TABLE sync_windows IS 'The ledger: one row per entity and sync window. A synced row was written with the last of its data; "asked, and nothing there" is a row with no rows fetched.';
COMMENT ON COLUMN sync_windows.entity IS 'The asset''s table, such as flows or flow_report.';
COMMENT ON COLUMN sync_windows.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN sync_windows.window_end IS 'End of the window, exclusive.';
COMMENT ON COLUMN sync_windows.status IS 'synced: every object whose updated fell in the window and still had it when asked is in the table. failed: it was never synced, and the last attempt failed.';
COMMENT ON COLUMN sync_windows.asked_at IS 'When the first request of the attempt that synced it was made; a window asked before its end is asked again.';
COMMENT ON COLUMN sync_windows.rows_fetched IS 'Rows that the last synced attempt received for this window.';
COMMENT ON COLUMN sync_windows.rows_inserted IS 'Of these, rows that were new.';
COMMENT ON COLUMN sync_windows.rows_updated IS 'Of these, rows that differed from the table.';
COMMENT ON COLUMN sync_windows.rows_unchanged IS 'Of these, rows that the table already held as they were, or held from a later observation.';
COMMENT ON COLUMN sync_windows.rows_deleted IS 'Rows that the window no longer has (reports: a day is replaced as a whole).';
COMMENT ON COLUMN sync_windows.requests IS 'Requests to Klaviyo. What one request brought for many windows is counted on the first of them, so that the column adds up.';
COMMENT ON COLUMN sync_windows.attempts IS 'How often the window was asked, failed attempts included.';
COMMENT ON COLUMN sync_windows.run_id IS 'The Dagster run that synced it; of a window that was never synced, the run that failed last.';
COMMENT ON COLUMN sync_windows.started_at IS 'When that run began.';
COMMENT ON COLUMN sync_windows.finished_at IS 'When that run was done with the window.';
COMMENT ON COLUMN sync_windows.error IS 'Why the last attempt failed; null when it did not.';
COMMENT ON COLUMN sync_windows.conversion_metric_id IS 'Reports: the conversion metric it was asked with.';
COMMENT ON COLUMN sync_windows.account_timezone IS 'Reports: the account''s time zone when it was asked.';
COMMENT ON COLUMN sync_windows.account_currency IS 'Reports: the account''s currency when it was asked.';
CREATE INDEX sync_windows_status_idx ON sync_windows (entity, status, window_start);

CREATE TABLE census_runs (
    entity          text NOT NULL,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    status          text NOT NULL CHECK (status IN ('complete', 'failed')),
    rows_listed     bigint NOT NULL DEFAULT 0,
    rows_inserted   bigint NOT NULL DEFAULT 0,
    rows_updated    bigint NOT NULL DEFAULT 0,
    rows_unchanged  bigint NOT NULL DEFAULT 0,
    rows_deleted    bigint NOT NULL DEFAULT 0,
    requests        integer NOT NULL DEFAULT 0,
    run_id          text,
    error           text,
    PRIMARY KEY (entity, started_at)
);
COMMENT ON TABLE census_runs IS 'Every full listing of an entity: what it found that the windows had not.';
COMMENT ON COLUMN census_runs.entity IS 'flows, campaigns, forms or segments.';
COMMENT ON COLUMN census_runs.started_at IS 'When the first request was made.';
COMMENT ON COLUMN census_runs.finished_at IS 'When the census ended.';
COMMENT ON COLUMN census_runs.status IS 'complete: every object was listed and every absent one asked for. failed: nothing was marked deleted.';
COMMENT ON COLUMN census_runs.rows_listed IS 'Objects in the listings.';
COMMENT ON COLUMN census_runs.rows_inserted IS 'Objects that the table lacked.';
COMMENT ON COLUMN census_runs.rows_updated IS 'Objects that differed from the table: flips, returns, missed changes.';
COMMENT ON COLUMN census_runs.rows_unchanged IS 'Objects that the table held as they were.';
COMMENT ON COLUMN census_runs.rows_deleted IS 'Objects that Klaviyo, asked for them by id, has no more.';
COMMENT ON COLUMN census_runs.requests IS 'Requests to Klaviyo.';
COMMENT ON COLUMN census_runs.run_id IS 'The Dagster run.';
COMMENT ON COLUMN census_runs.error IS 'Why it failed.';

CREATE TABLE lookup_misses (
    entity     text NOT NULL,
    id         text NOT NULL,
    missed_at  timestamptz NOT NULL,
    PRIMARY KEY (entity, id)
);
COMMENT ON TABLE lookup_misses IS 'Ids that Klaviyo did not have when asked; they are not asked for again within a day.';
COMMENT ON COLUMN lookup_misses.entity IS 'flows, campaigns, forms or segments.';
COMMENT ON COLUMN lookup_misses.id IS 'The id that was asked for.';
COMMENT ON COLUMN lookup_misses.missed_at IS 'When Klaviyo answered 404.';

CREATE TABLE api_pacing (
    endpoint       text PRIMARY KEY,
    slots          timestamptz[] NOT NULL DEFAULT '{}',
    blocked_until  timestamptz
);
COMMENT ON TABLE api_pacing IS 'The request slots that all processes on this account share, one row per endpoint.';
COMMENT ON COLUMN api_pacing.endpoint IS 'Klaviyo''s name of the operation, such as get_flows.';
COMMENT ON COLUMN api_pacing.slots IS 'The last reserved slots, oldest first, as many as the longest published rate needs.';
COMMENT ON COLUMN api_pacing.blocked_until IS 'Klaviyo answered 429: nobody asks before this moment.';

-- Every window that should exist by now, and what the ledger says of it. The open window is not expected yet.
CREATE VIEW expected_windows AS
SELECT
    asset.entity,
    span.window_start,
    span.window_end
FROM account
CROSS JOIN (VALUES ('flows', true), ('campaigns', true), ('forms', true), ('segments', true),
                   ('flow_report', false), ('flow_metrics', false),
                   ('campaign_report', false), ('campaign_metrics', false), ('form_report', false),
                   ('form_metrics', false), ('segment_report', false), ('segment_metrics', false)) AS asset (entity, by_account_window)
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
        WHERE asset.by_account_window AND account.sync_window = 'hourly'
        UNION ALL
        -- The first of two midnights, where the clocks go back over midnight.
        SELECT least(
            day AT TIME ZONE account.window_timezone,
            (day - interval '1 hour') AT TIME ZONE account.window_timezone + interval '1 hour'
        )
        FROM generate_series(
            account.start_date::timestamp,
            (now() AT TIME ZONE account.window_timezone)::date + interval '1 day',
            interval '1 day'
        ) AS day
        WHERE NOT (asset.by_account_window AND account.sync_window = 'hourly')
    ) AS edges
) AS span
WHERE span.window_end <= now();
COMMENT ON VIEW expected_windows IS 'Every sync window that has ended, from the first day to sync until now, per asset.';
COMMENT ON COLUMN expected_windows.entity IS 'The asset''s table.';
COMMENT ON COLUMN expected_windows.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN expected_windows.window_end IS 'End of the window, exclusive.';

-- A window is done when it is synced and was asked after its end, plus the seconds within which Klaviyo refuses
-- to answer about the present.
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
    ON ledger.entity = expected.entity AND ledger.window_start = expected.window_start;
COMMENT ON VIEW window_states IS 'Every window, expected or in the ledger: synced, failed, missing, or open (synced before its end, so to be asked again).';
COMMENT ON COLUMN window_states.entity IS 'The asset''s table.';
COMMENT ON COLUMN window_states.window_start IS 'Start of the window, inclusive.';
COMMENT ON COLUMN window_states.window_end IS 'End of the window, exclusive.';
COMMENT ON COLUMN window_states.state IS 'synced, failed, missing or open.';
COMMENT ON COLUMN window_states.has_ended IS 'Whether the window lies wholly in the past.';
COMMENT ON COLUMN window_states.asked_at IS 'When it was last asked.';
COMMENT ON COLUMN window_states.finished_at IS 'When the last attempt ended.';
COMMENT ON COLUMN window_states.error IS 'Why the last attempt failed.';

-- A day of a report that was asked has a row here, with figures or without; a day that never was has none.
CREATE VIEW report_days AS
SELECT
    ledger.entity,
    (ledger.window_start AT TIME ZONE account.window_timezone)::date AS date,
    ledger.asked_at,
    ledger.rows_fetched,
    ledger.conversion_metric_id,
    ledger.asked_at >= ledger.window_end + account.attribution_days * interval '1 day' AS is_settled
FROM sync_windows AS ledger
CROSS JOIN account
WHERE ledger.entity LIKE '%\_report' AND ledger.status = 'synced';
COMMENT ON VIEW report_days IS 'Every day that a report was asked for: when last, how many rows came, and whether its figures are final.';
COMMENT ON COLUMN report_days.entity IS 'The report''s table.';
COMMENT ON COLUMN report_days.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN report_days.asked_at IS 'When it was last asked.';
COMMENT ON COLUMN report_days.rows_fetched IS 'Rows with figures; 0 means asked, and nothing there.';
COMMENT ON COLUMN report_days.conversion_metric_id IS 'The metric it was asked with.';
COMMENT ON COLUMN report_days.is_settled IS 'Whether the attribution window of the day had closed when it was last asked.';

CREATE VIEW sync_status AS
SELECT
    asset.entity,
    CASE
        WHEN counted.windows_failed > 0 THEN 'failed'
        WHEN counted.windows_synced = 0 THEN 'never synced'
        WHEN counted.windows_missing > 0 THEN 'behind'
        ELSE 'synced'
    END AS status,
    counted.last_synced_at,
    counted.synced_through,
    counted.windows_synced,
    counted.windows_failed,
    counted.windows_missing,
    asset.row_count,
    counted.last_error
FROM (
    SELECT 1, 'flows', count(*) FILTER (WHERE deleted_at IS NULL) FROM flows
    UNION ALL SELECT 2, 'campaigns', count(*) FILTER (WHERE deleted_at IS NULL) FROM campaigns
    UNION ALL SELECT 3, 'forms', count(*) FILTER (WHERE deleted_at IS NULL) FROM forms
    UNION ALL SELECT 4, 'segments', count(*) FILTER (WHERE deleted_at IS NULL) FROM segments
    UNION ALL SELECT 5, 'flow_report', count(*) FROM flow_report
    UNION ALL SELECT 6, 'flow_metrics', count(*) FROM flow_metrics
    UNION ALL SELECT 7, 'campaign_report', count(*) FROM campaign_report
    UNION ALL SELECT 8, 'campaign_metrics', count(*) FROM campaign_metrics
    UNION ALL SELECT 9, 'form_report', count(*) FROM form_report
    UNION ALL SELECT 10, 'form_metrics', count(*) FROM form_metrics
    UNION ALL SELECT 11, 'segment_report', count(*) FROM segment_report
    UNION ALL SELECT 12, 'segment_metrics', count(*) FROM segment_metrics
) AS asset (position, entity, row_count)
CROSS JOIN LATERAL (
    SELECT
        max(w.finished_at) FILTER (WHERE w.state IN ('synced', 'open')) AS last_synced_at,
        count(*) FILTER (WHERE w.state IN ('synced', 'open')) AS windows_synced,
        count(*) FILTER (WHERE w.state = 'failed') AS windows_failed,
        count(*) FILTER (WHERE w.has_ended AND w.state IN ('missing', 'open')) AS windows_missing,
        (array_agg(w.error ORDER BY w.finished_at DESC) FILTER (WHERE w.error IS NOT NULL))[1] AS last_error,
        max(least(w.window_end, w.asked_at)) FILTER (
            WHERE w.state IN ('synced', 'open') AND w.window_start <= unbroken.until
        ) AS synced_through
    FROM window_states AS w
    CROSS JOIN (
        -- The first window after the earliest synced one that is not done: nothing beyond it counts.
        SELECT coalesce(min(gap.window_start), 'infinity') AS until
        FROM window_states AS gap
        WHERE gap.entity = asset.entity
            AND gap.state <> 'synced'
            AND gap.window_start >= (
                SELECT min(first.window_start)
                FROM sync_windows AS first
                WHERE first.entity = asset.entity AND first.status = 'synced'
            )
    ) AS unbroken
    WHERE w.entity = asset.entity
) AS counted
ORDER BY asset.position;
COMMENT ON VIEW sync_status IS 'One row per asset: how far it is synced, what is missing, what failed.';
COMMENT ON COLUMN sync_status.entity IS 'The asset''s table.';
COMMENT ON COLUMN sync_status.status IS 'synced, behind (ended windows are missing), failed (the last attempt at a window failed) or never synced.';
COMMENT ON COLUMN sync_status.last_synced_at IS 'When a window was last synced.';
COMMENT ON COLUMN sync_status.synced_through IS 'Everything up to here is synced, without a gap, from the earliest synced window on.';
COMMENT ON COLUMN sync_status.windows_synced IS 'Windows that are synced, the open one included.';
COMMENT ON COLUMN sync_status.windows_failed IS 'Windows that were never synced and whose last attempt failed.';
COMMENT ON COLUMN sync_status.windows_missing IS 'Windows that have ended, and were never asked or only before their end.';
COMMENT ON COLUMN sync_status.row_count IS 'Rows in the table, deleted objects left out.';
COMMENT ON COLUMN sync_status.last_error IS 'The newest error that no later success has cleared.';
