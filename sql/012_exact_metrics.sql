-- Metrics of any range of days, with Klaviyo's own uniques of the whole range: the stored answers of `metrics --exact`.

CALL create_table('exact_answers', 'Ranges of days for which metrics --exact requested Klaviyo''s values report of flows, campaigns or forms, one row each. A later answer replaces the earlier one.', ARRAY[
    ['first_day', 'date', 'First day of the range, in the account''s time zone.'],
    ['last_day', 'date', 'Last day of the range, inclusive.'],
    ['asked_at', 'timestamptz NOT NULL', 'When the request was sent.'],
    ['conversion_metric_id', 'text', 'The conversion metric of the request; NULL for forms.'],
    ['refused_statistics', 'text[] NOT NULL DEFAULT ''{}''', 'Statistics that Klaviyo refused for the metric; they are NULL in the values.'],
    ['entity', 'text CHECK (entity IN (''flows'', ''campaigns'', ''forms''))', 'Whose report was requested: flows, campaigns or forms. The values are in flow_metrics_exact, campaign_metrics_exact and form_metrics_exact.']
], 'PRIMARY KEY (entity, first_day, last_day), CHECK (last_day >= first_day)');

CREATE VIEW valid_exact_answers AS
SELECT
    answer.entity, answer.first_day, answer.last_day, answer.asked_at, answer.conversion_metric_id,
    answer.refused_statistics, settled_at
FROM exact_answers AS answer
CROSS JOIN account
CROSS JOIN LATERAL (
    SELECT (answer.last_day + 1 + account.attribution_days)::timestamp AT TIME ZONE account.timezone AS settled_at
) AS attribution
WHERE (
        answer.asked_at > now() - interval '1 hour'
        -- Refused statistics are requested again the next day, as they are by a sync.
        OR answer.asked_at >= settled_at
            AND (answer.refused_statistics = '{}' OR answer.asked_at > now() - interval '20 hours')
    )
    -- An answer is no longer valid if the report was later requested with another conversion metric.
    AND NOT EXISTS (
        SELECT FROM sync_windows AS later
        WHERE later.entity = CASE answer.entity WHEN 'flows' THEN 'flow_report' ELSE 'campaign_report' END
            AND later.status = 'synced'
            AND later.asked_at > answer.asked_at
            AND later.conversion_metric_id <> answer.conversion_metric_id
    );

CREATE VIEW current_exact_answers AS
SELECT first_day, last_day, asked_at, conversion_metric_id, refused_statistics, settled_at
FROM valid_exact_answers
WHERE entity = 'flows';

DO $$
DECLARE
    described CONSTANT text[] := ARRAY[
        ['first_day', 'First day of the range, in the account''s time zone.'],
        ['last_day', 'Last day of the range, inclusive.'],
        ['asked_at', 'When the request was sent.'],
        ['refused_statistics', 'Statistics that Klaviyo refused for the metric.'],
        ['settled_at', 'When the attribution window of the last day closes: an answer that was requested then or later is final.']
    ];
BEGIN
    CALL comment_on_view('valid_exact_answers', 'The exact answers that are used without a new request: final answers, and answers of the last hour. A final answer with refused statistics is used for 20 hours.', described || ARRAY[
        ['entity', 'flows, campaigns or forms.'],
        ['conversion_metric_id', 'The conversion metric of the request; NULL for forms.']
    ]);
    CALL comment_on_view('current_exact_answers', 'The rows of valid_exact_answers for flows, which flow_metrics_between uses.', described || ARRAY[
        ['conversion_metric_id', 'The conversion metric of the request.']
    ]);
END
$$;

-- Each table has the same sums as the table of daily metrics. The tables of campaigns and forms also have the rates.
-- The rates of flows are computed by flow_metrics_between.
DO $$
DECLARE
    one text[];
    noun text;
    columns text[];
BEGIN
    FOREACH one SLICE 1 IN ARRAY ARRAY[
        ['flow', 'Id of the flow; empty if the report names none.', 'sums over the flow''s messages. Uniques are Klaviyo''s own for the range and message. flow_metrics_between reads this table, and computes the rates.'],
        ['campaign', 'Id of the campaign.', 'Klaviyo''s own counts and unique counts for the whole range, summed over the campaign''s messages, and rates from them. valid_exact_answers has the ranges whose values are current.'],
        ['form', 'Id of the form.', 'Klaviyo''s own counts and unique counts for the whole range, and rates from them. valid_exact_answers has the ranges whose values are current.']
    ] LOOP
        noun := one[1];
        SELECT array_agg(ARRAY[
            attname::text,
            'numeric' || coalesce(' GENERATED ALWAYS AS (' || pg_get_expr(adbin, adrelid) || ') STORED', ''),
            replace(replace(replace(replace(col_description(attrelid, attnum),
                ' by message and day.', ' by message, as Klaviyo counts them for the whole range.'),
                ' on that day.', ' in the whole range, as Klaviyo counts them.'),
                ' Sum of the messages'' daily uniques: do not add it up over days.',
                format(' Summed over the %s''s messages: do not add it up over ranges.', noun)),
                ' Computed from the sum of the messages'' daily uniques.',
                format(' Computed from Klaviyo''s uniques of the range, summed over the %s''s messages.', noun))
        ] ORDER BY attnum)
        INTO columns
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = to_regclass(noun || '_metrics') AND atttypid = 'numeric'::regtype AND NOT attisdropped
            AND (attgenerated = '' OR noun <> 'flow');
        CALL create_table(noun || '_metrics_exact', format('One row per %s and requested range of days: %s', noun, one[3]), ARRAY[
            ['first_day', 'date', 'First day of the range, in the account''s time zone.'],
            ['last_day', 'date', 'Last day of the range, inclusive.'],
            [noun || '_id', 'text', one[2]]
        ] || columns, format('PRIMARY KEY (first_day, last_day, %I)', noun || '_id'));
    END LOOP;
END
$$;

DO $$
DECLARE
    counts CONSTANT text[] := statistics_of('flow_metrics');
    rates CONSTANT text[] := (
        SELECT array_agg(ARRAY[attname::text, pg_get_expr(adbin, adrelid)] ORDER BY attnum)
        FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = 'flow_metrics'::regclass AND atttypid = 'numeric'::regtype AND attgenerated <> '' AND NOT attisdropped
    );
    returned text := '';
    weighted text := '';
    exact text := '';
    selected text := '';
    returned_uniques text := '';
    selected_uniques text := '';
    one text[];
BEGIN
    FOREACH one SLICE 1 IN ARRAY counts LOOP
        exact := exact || format(', exact.%I', one[1]);
        weighted := weighted || CASE WHEN one[1] = 'conversion_value'
            THEN format(', CASE WHEN count(%1$I) = count(*) THEN sum(%1$I) END AS %1$I', one[1])
            ELSE format(', sum(%1$I) AS %1$I', one[1]) END;
        IF one[1] LIKE '%unique%' THEN
            returned_uniques := returned_uniques || format(', %I numeric', one[1]);
            selected_uniques := selected_uniques || format(', CASE WHEN is_exact THEN %I END', one[1]);
        ELSE
            returned := returned || format(', %I numeric', one[1]);
            selected := selected || format(', %I', one[1]);
        END IF;
    END LOOP;
    FOREACH one SLICE 1 IN ARRAY rates LOOP
        returned := returned || format(', %I numeric', one[1]);
        selected := selected || format(', %s', one[2]);
    END LOOP;
    EXECUTE format(
        'CREATE FUNCTION flow_metrics_between(first_day date, last_day date) '
        'RETURNS TABLE (flow_id text, flow_name text, flow_status text, trigger_type text, days bigint%1$s%2$s, uniques text) '
        'LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC '
        'WITH answer AS MATERIALIZED ('
        'SELECT FROM current_exact_answers AS stored WHERE stored.first_day = $1 AND stored.last_day = $2'
        '), summed AS ('
        'SELECT flow_id, max(flow_name) AS flow_name, max(flow_status) AS flow_status, max(trigger_type) AS trigger_type, '
        'count(*) AS days%3$s, $1 = $2 AS is_exact '
        'FROM flow_metrics WHERE date BETWEEN $1 AND $2 AND NOT EXISTS (SELECT FROM answer) GROUP BY flow_id '
        'UNION ALL '
        'SELECT exact.flow_id, flows.name, flows.status, flows.trigger_type, $2 - $1 + 1%4$s, true '
        'FROM flow_metrics_exact AS exact LEFT JOIN flows ON flows.id = exact.flow_id '
        'WHERE exact.first_day = $1 AND exact.last_day = $2 AND EXISTS (SELECT FROM answer)'
        ') SELECT flow_id, flow_name, flow_status, trigger_type, days%5$s%6$s, '
        'CASE WHEN is_exact THEN ''exact'' ELSE ''weighted'' END FROM summed; END',
        returned, returned_uniques, weighted, exact, selected, selected_uniques);
END
$$;
COMMENT ON FUNCTION flow_metrics_between IS 'One row for each flow over the days from first_day to last_day, both included. Counts are summed. Revenue, and the values computed from it, are NULL if the revenue of any day is NULL. The column uniques is exact if the range is a single day or was requested with metrics --exact (see current_exact_answers): the unique counts are then Klaviyo''s own for these days, summed over the flow''s messages. Otherwise uniques is weighted: the unique counts are NULL, and a rate of unique counts is the average of the daily rates, weighted by deliveries (click_to_open_rate: by opens). days counts the days with values; for a range that was requested with metrics --exact, it counts all days.';
