-- Exact metrics of campaigns and forms, beside those of flows: the answers to `metrics --exact --campaigns` and `--forms`.

ALTER TABLE flow_metrics_exact DROP CONSTRAINT flow_metrics_exact_first_day_last_day_fkey;
ALTER TABLE exact_answers
    ADD entity text NOT NULL DEFAULT 'flows' CHECK (entity IN ('flows', 'campaigns', 'forms')),
    ALTER conversion_metric_id DROP NOT NULL,
    DROP CONSTRAINT exact_answers_pkey,
    ADD PRIMARY KEY (entity, first_day, last_day);
ALTER TABLE exact_answers ALTER entity DROP DEFAULT;
COMMENT ON TABLE exact_answers IS 'Ranges of days for which metrics --exact requested Klaviyo''s values report of flows, campaigns or forms, one row each. A later answer replaces the earlier one.';
CALL comment_on_columns('exact_answers', ARRAY[
    ['entity', 'flows, campaigns or forms: whose report was requested. The values are in flow_metrics_exact, campaign_metrics_exact and form_metrics_exact.'],
    ['conversion_metric_id', 'The conversion metric of the request; NULL for forms.'],
    ['refused_statistics', 'Statistics that Klaviyo refused for the metric; they are NULL in the values.']
]);

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
        -- Refused statistics are requested again the next day, as a sync does.
        OR answer.asked_at >= settled_at
            AND (answer.refused_statistics = '{}' OR answer.asked_at > now() - interval '20 hours')
    )
    -- The report was since requested with another conversion metric.
    AND NOT EXISTS (
        SELECT FROM sync_windows AS later
        WHERE later.entity = CASE answer.entity WHEN 'flows' THEN 'flow_report' ELSE 'campaign_report' END
            AND later.status = 'synced'
            AND later.asked_at > answer.asked_at
            AND later.conversion_metric_id <> answer.conversion_metric_id
    );
CALL comment_on_view('valid_exact_answers', 'The exact answers that are used without a new request: final ones, and those of the last hour. A final one with refused statistics is used for 20 hours.', ARRAY[
    ['entity', 'flows, campaigns or forms.'],
    ['first_day', 'First day of the range, in the account''s time zone.'],
    ['last_day', 'Last day of the range, inclusive.'],
    ['asked_at', 'When the request was sent.'],
    ['conversion_metric_id', 'The conversion metric of the request; NULL for forms.'],
    ['refused_statistics', 'Statistics that Klaviyo refused for the metric.'],
    ['settled_at', 'When the attribution window of the last day closes: an answer requested later is final.']
]);

CREATE OR REPLACE VIEW current_exact_answers AS
SELECT first_day, last_day, asked_at, conversion_metric_id, refused_statistics, settled_at
FROM valid_exact_answers
WHERE entity = 'flows';
COMMENT ON VIEW current_exact_answers IS 'Those of valid_exact_answers that are of flows: flow_metrics_between uses them.';

-- The tables have the sums and rates of the daily metrics.
DO $$
DECLARE
    metrics text;
    name text;
    key text;
    one record;
BEGIN
    FOREACH metrics IN ARRAY ARRAY['campaign_metrics', 'form_metrics'] LOOP
        name := metrics || '_exact';
        key := split_part(metrics, '_', 1) || '_id';
        EXECUTE format('CREATE TABLE %I (first_day date NOT NULL, last_day date NOT NULL, LIKE %I INCLUDING COMMENTS INCLUDING GENERATED)', name, metrics);
        FOR one IN
            SELECT attname::text AS column_name, atttypid = 'numeric'::regtype AS is_numeric, col_description(attrelid, attnum) AS comment
            FROM pg_attribute
            WHERE attrelid = to_regclass(quote_ident(name)) AND attnum > 0 AND NOT attisdropped
        LOOP
            IF one.is_numeric THEN
                CALL comment_on_columns(name, ARRAY[[one.column_name, replace(replace(replace(replace(one.comment,
                    ' by message and day.', ' by message, as Klaviyo counts them for the whole range.'),
                    ' on that day.', ' in the whole range, as Klaviyo counts them.'),
                    ' Sum of the messages'' daily uniques: do not add it up over days.',
                    ' Summed over the campaign''s messages: do not add it up over ranges.'),
                    ' Computed from the sum of the messages'' daily uniques.',
                    ' Computed from Klaviyo''s uniques of the range, summed over the campaign''s messages.')]]);
            ELSIF one.column_name NOT IN ('first_day', 'last_day', key) THEN
                EXECUTE format('ALTER TABLE %I DROP %I', name, one.column_name);
            END IF;
        END LOOP;
        CALL comment_on_columns(name, ARRAY[
            ['first_day', 'First day of the range, in the account''s time zone.'],
            ['last_day', 'Last day of the range, inclusive.']
        ]);
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (first_day, last_day, %I)', name, key);
        EXECUTE format('COMMENT ON TABLE %I IS %L', name, format(
            'One row per %s and requested range of days: Klaviyo''s own counts and unique counts for the whole range%s, and rates from them. valid_exact_answers has the ranges whose values are current.',
            split_part(metrics, '_', 1), CASE metrics WHEN 'campaign_metrics' THEN ', summed over the campaign''s messages' ELSE '' END));
    END LOOP;
END
$$;
