-- Flow reports by calendar week and month, with Klaviyo's own uniques of each period.

-- The tables have the columns of the daily tables, with period_start in place of date.
DO $$
DECLARE
    covered CONSTANT text[] := ARRAY[
        ['covered_from', 'First day that the values cover: later than period_start if the period began before the start date.'],
        ['covered_to', 'Last day that the values cover: earlier than the last day of the period if the period had not ended when it was requested.']
    ];
    word text;
    name text;
    source text;
    one record;
BEGIN
    FOREACH word IN ARRAY ARRAY['week', 'month'] LOOP
        FOREACH source IN ARRAY ARRAY['flow_report', 'flow_metrics'] LOOP
            name := source || '_' || word || 'ly';
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING COMMENTS INCLUDING DEFAULTS INCLUDING GENERATED)', name, source);
            EXECUTE format('ALTER TABLE %I RENAME date TO period_start', name);
            EXECUTE format('ALTER TABLE %I ADD covered_from date NOT NULL, ADD covered_to date NOT NULL', name);
            CALL comment_on_columns(name, covered);
            FOR one IN
                SELECT attname::text AS column_name, col_description(attrelid, attnum) AS comment
                FROM pg_attribute
                WHERE attrelid = to_regclass(quote_ident(name)) AND attnum > 0 AND NOT attisdropped
            LOOP
                CALL comment_on_columns(name, ARRAY[[one.column_name, replace(replace(replace(replace(replace(
                    CASE one.column_name WHEN 'period_start' THEN
                        format('First day of the %s, in the account''s time zone. Values count on the day of the send.', word)
                    ELSE one.comment END,
                    ' by message and day.', format(' by message and %s, as Klaviyo counts them.', word)),
                    ' Sum of the messages'' daily uniques: do not add it up over days.',
                    format(' Summed over the flow''s messages: do not add it up over %ss.', word)),
                    ' Computed from the sum of the messages'' daily uniques.',
                    format(' Computed from Klaviyo''s uniques of the %s, summed over the flow''s messages.', word)),
                    ' this message and day', format(' this message and %s', word)),
                    '_restatements does', format('_%sly_restatements does', word))]]);
            END LOOP;
            IF source = 'flow_report' THEN
                EXECUTE format('COMMENT ON TABLE %I IS %L', name, format(
                    'Klaviyo''s flow series report by %1$s: one row per flow, message, channel and %1$s.', word));
                EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (flow_id, flow_message_id, send_channel, period_start, conversion_metric_id)', name);
                EXECUTE format('CREATE INDEX %I ON %I (period_start, flow_id)', name || '_period_start_idx', name);
                CALL keep_history(name, format('Every state of every row of %s. A later answer with other values ends a state.', name));
                -- A change of values is no restatement if the period now covers more days.
                CALL create_restatements(name, 'flow_id, flow_message_id, send_channel, period_start, covered_from, covered_to, conversion_metric_id');
            ELSE
                EXECUTE format('COMMENT ON TABLE %I IS %L', name, format(
                    'One row per flow and %1$s: sums over the flow''s messages, and rates from those sums. Uniques are Klaviyo''s own for the %1$s and message.', word));
                EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (flow_id, period_start)', name);
                EXECUTE format('CREATE INDEX %I ON %I (period_start)', name || '_period_start_idx', name);
            END IF;
            CALL register_asset(name, false, word);
        END LOOP;
    END LOOP;
END
$$;

-- The planner assumes that a table that was never analyzed has at least ten pages: here, a thousand assets. Multiplied
-- by the number of windows, these seemed to be millions of rows, and Postgres compiled the queries (jit) before it ran
-- them. Autovacuum never analyzes tables with so few rows.
ANALYZE assets;
