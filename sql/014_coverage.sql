-- Which days of a span are covered: no row in a table means "nothing there" only on a day that is.
CREATE FUNCTION days_covered(asset text, first_day date, last_day date)
RETURNS TABLE (
    date date,
    state text,
    is_covered boolean
)
LANGUAGE sql STABLE BEGIN ATOMIC
    WITH windows AS MATERIALIZED (
        SELECT
            (w.window_start AT TIME ZONE account.window_timezone)::date AS day,
            w.state,
            w.window_end,
            account.window_timezone AS zone
        FROM window_states AS w
        CROSS JOIN account
        WHERE w.entity = days_covered.asset
    ),
    days AS (
        SELECT
            one.day::date AS day,
            CASE
                -- Only a name that is no asset's has no window at all, once the account's first day has ended.
                WHEN NOT EXISTS (SELECT FROM windows) AND EXISTS (SELECT FROM expected_windows) THEN 'unknown asset'
                WHEN bool_or(windows.state = 'failed') THEN 'failed'
                WHEN count(windows.state) = 0 OR bool_or(windows.state = 'missing') THEN 'missing'
                -- Of a day in hours, some may be over and the rest not.
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
COMMENT ON FUNCTION days_covered(text, date, date) IS 'Each day of a span, both ends included, and whether this asset (such as flow_metrics) covers it: is_covered is true for a day that was synced after its end. state is synced, open (synced before the day ended), missing (never requested), failed, or unknown asset. Read it beside flow_metrics_between: a day that is not covered counts as nothing there.';
