-- Reports: Klaviyo's statistics by day, and the metrics that are computed from them. Statistics that a later answer
-- replaced are kept as earlier states. Days are in the account's time zone. A day is replaced as a whole.

CREATE FUNCTION statistics_of(name text) RETURNS text[] LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT array_agg(ARRAY[attname::text, 'numeric', col_description(attrelid, attnum)] ORDER BY attnum)
    FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(name)) AND attnum > 0 AND NOT attisdropped
        AND atttypid = 'numeric'::regtype AND attgenerated = '';
END;
COMMENT ON FUNCTION statistics_of IS 'The statistics of a report, or the sums of a table of metrics, as a list of columns.';

-- `key` are the key columns before the date. `metric` is the column of the conversion metric, if the report has one. It
-- is part of the key, as its last column, because the table may have rows of several metrics.
CREATE PROCEDURE create_report(
    name text, comment text, key text[], day_comment text, statistics text[], metric text[] DEFAULT '{}'
) LANGUAGE plpgsql AS $$
DECLARE
    named text := array_to_string((key || ARRAY[['date', 'date', day_comment]] || metric)[:][1:1], ', ');
BEGIN
    CALL create_table(name, comment, key || ARRAY[['date', 'date', day_comment]] || statistics || metric || ARRAY[
        ['other_statistics', 'jsonb', format('Statistics of the answer that have no column here, by Klaviyo''s name; '
            'NULL if there are none. %s does not list their changes.', name || '_restatements')],
        ['groups', 'integer NOT NULL DEFAULT 1', 'How many groups of Klaviyo''s answer this row sums up: 1, unless '
            'several groups had the same key. A row of several groups has no rates.'],
        ['observed_at', 'timestamptz NOT NULL', 'When the request that returned this row was sent.']
    ], format('PRIMARY KEY (%s)', named));
    EXECUTE format('CREATE INDEX %I ON %I (date, %s)', name || '_date_idx', name, key[1][1]);
    CALL keep_history(name, format('Every state of every row of %s. A later answer with other values ends a state.', name));
    CALL create_restatements(name, named);
    CALL register_asset(name, false);
END
$$;
COMMENT ON PROCEDURE create_report IS 'Creates all relations of a report: table, earlier states, history, restatements, index, comments.';

CREATE PROCEDURE create_undated(name text, comment text, key text[], statistics text[], metric text[]) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_table(name, comment, key || statistics || metric || ARRAY[
        ['other_statistics', 'jsonb', 'Statistics of the answer that have no column here, by Klaviyo''s name; NULL if there are none.'],
        ['groups', 'integer NOT NULL DEFAULT 1', 'As in campaign_report.'],
        ['asked_from', 'date NOT NULL', 'First day of the request.'],
        ['asked_to', 'date NOT NULL', 'Last day of the request.'],
        ['observed_at', 'timestamptz NOT NULL', 'When the request that returned this row was sent.']
    ], format('PRIMARY KEY (%s)', array_to_string((key || metric)[:][1:1], ', ')));
END
$$;
COMMENT ON PROCEDURE create_undated IS 'Creates the table of the rows of a campaign report whose day is not known.';

CREATE PROCEDURE create_restatements(report text, key text) LANGUAGE plpgsql AS $$
DECLARE
    name text := report || '_restatements';
    statistics text[] := statistics_of(report);
    key_comments text[] := (
        SELECT array_agg(ARRAY[part, 'Part of the key of the report''s row.'])
        FROM unnest(string_to_array(key, ', ')) AS part
    );
BEGIN
    EXECUTE format(
        'CREATE VIEW %1$I AS SELECT %2$s, later.valid_from AS restated_at, statistic, earlier_value, later_value '
        'FROM %3$I AS later JOIN %3$I AS earlier USING (%2$s) CROSS JOIN LATERAL (VALUES %4$s) '
        'AS statistics (statistic, earlier_value, later_value) '
        'WHERE earlier.valid_to = later.valid_from AND earlier_value IS DISTINCT FROM later_value',
        name, key, report || '_history', (
            SELECT string_agg(format('(%1$L, earlier.%1$I, later.%1$I)', statistics[place][1]), ', ' ORDER BY place)
            FROM generate_subscripts(statistics, 1) AS place
        ));
    CALL comment_on_view(name, 'One row for each statistic whose value changed in a later answer, with both values and the time of the change.', key_comments || ARRAY[
        ['restated_at', 'When the later value was first observed.'],
        ['statistic', 'Klaviyo''s name of the statistic.'],
        ['earlier_value', 'The value before the change.'],
        ['later_value', 'The value after the change.']
    ]);
END
$$;
COMMENT ON PROCEDURE create_restatements IS 'Creates the view of the restatements of a report: values that differ from an earlier answer for the same period.';

-- `named` are the key, beginning with the object's id, and the columns that repeat the object's latest state. `sums`
-- are the statistics that are summed. `rates` are [name, dividend, divisor, meaning, unit]. With `of_messages`, an
-- object may have several messages, and the comments say that its uniques are sums over the messages.
CREATE PROCEDURE create_metrics(
    name text, comment text, named text[], sums text[], rates text[], others text[] DEFAULT '{}', of_messages boolean DEFAULT false
) LANGUAGE plpgsql AS $$
DECLARE
    columns text[] := '{}';
    described text[];
BEGIN
    FOREACH described SLICE 1 IN ARRAY sums LOOP
        columns := columns || ARRAY[[described[1], 'numeric', described[3] || CASE WHEN of_messages AND described[1] LIKE '%unique%'
            THEN ' Sum of the messages'' daily uniques: do not add it up over days.' ELSE '' END]];
    END LOOP;
    FOREACH described SLICE 1 IN ARRAY rates LOOP
        columns := columns || ARRAY[[
            described[1],
            format('numeric GENERATED ALWAYS AS (%s / nullif(%s, 0)) STORED', described[2], described[3]),
            format('%s: %s / %s%s; NULL if the divisor is 0.%s',
                described[4], described[2], described[3], described[5], CASE WHEN of_messages AND described[2] LIKE '%unique%'
                    THEN ' Computed from the sum of the messages'' daily uniques.' ELSE '' END)
        ]];
    END LOOP;
    CALL create_table(name, comment, named || columns || others || ARRAY[
        ['observed_at', 'timestamptz NOT NULL', 'When this row was computed.']
    ], format('PRIMARY KEY (%s, date)', named[1][1]));
    EXECUTE format('CREATE INDEX ON %I (date)', name);
    CALL register_asset(name, false);
END
$$;
COMMENT ON PROCEDURE create_metrics IS 'Creates a metrics table: sums by object and day, and rates, which are generated columns computed from these sums.';

DO $$
DECLARE
    counts CONSTANT text[] := ARRAY[
        ['recipients', 'numeric', 'Messages sent.'],
        ['delivered', 'numeric', 'Messages delivered.'],
        ['opens', 'numeric', 'Opens, including repeated ones.'],
        ['opens_unique', 'numeric', 'People who opened, by message and day.'],
        ['clicks', 'numeric', 'Clicks, including repeated ones.'],
        ['clicks_unique', 'numeric', 'People who clicked, by message and day.'],
        ['conversions', 'numeric', 'Conversions of the conversion metric.'],
        ['conversion_uniques', 'numeric', 'People who converted, by message and day.'],
        ['conversion_value', 'numeric', 'Value of the conversions, in the account''s currency.'],
        ['bounced', 'numeric', 'Messages that bounced.'],
        ['bounced_or_failed', 'numeric', 'Messages that bounced or failed.'],
        ['failed', 'numeric', 'Messages that could not be sent.'],
        ['unsubscribes', 'numeric', 'Unsubscribes, including repeated ones.'],
        ['unsubscribe_uniques', 'numeric', 'People who unsubscribed, by message and day.'],
        ['spam_complaints', 'numeric', 'Spam complaints.'],
        ['message_segment_count_sum', 'numeric', 'Text message segments sent.'],
        ['text_message_credit_usage_amount', 'numeric', 'Text message credits used.'],
        ['text_message_spend', 'numeric', 'Money spent on text messages.']
    ];
    -- Rates that Klaviyo computes for a single row: stored, never summed.
    stated CONSTANT text[] := ARRAY[
        ['open_rate', 'numeric', 'Open rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['click_rate', 'numeric', 'Click rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['click_to_open_rate', 'numeric', 'Clicks per open of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['conversion_rate', 'numeric', 'Conversion rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['revenue_per_recipient', 'numeric', 'Revenue per delivery of this message and day, as Klaviyo states it.'],
        ['average_order_value', 'numeric', 'Revenue per conversion of this message and day, as Klaviyo states it.'],
        ['bounce_rate', 'numeric', 'Bounce rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['bounced_or_failed_rate', 'numeric', 'Share of sends that bounced or failed, for this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['failed_rate', 'numeric', 'Share of sends that failed, for this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['delivery_rate', 'numeric', 'Delivery rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['unsubscribe_rate', 'numeric', 'Unsubscribe rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['spam_complaint_rate', 'numeric', 'Spam complaint rate of this message and day, as Klaviyo states it; 0.25 is 25%.'],
        ['text_message_roi', 'numeric', 'Return on the money spent on text messages, as Klaviyo states it.']
    ];
    rates CONSTANT text[] := ARRAY[
        ['open_rate', 'opens_unique', 'delivered', 'Opens per delivery', ', as a fraction (0.25 is 25%)'],
        ['click_rate', 'clicks_unique', 'delivered', 'Clicks per delivery', ', as a fraction (0.25 is 25%)'],
        ['click_to_open_rate', 'clicks_unique', 'opens_unique', 'Clicks per open', ', as a fraction (0.25 is 25%)'],
        ['conversion_rate', 'conversion_uniques', 'delivered', 'Conversions per delivery', ', as a fraction (0.25 is 25%)'],
        ['revenue_per_recipient', 'conversion_value', 'delivered', 'Revenue per delivery', ', in the account''s currency'],
        ['average_order_value', 'conversion_value', 'conversions', 'Revenue per conversion', ', in the account''s currency'],
        ['bounce_rate', 'bounced', 'recipients', 'Bounces per recipient', ', as a fraction (0.25 is 25%)'],
        ['delivery_rate', 'delivered', 'recipients', 'Deliveries per recipient', ', as a fraction (0.25 is 25%)'],
        ['unsubscribe_rate', 'unsubscribe_uniques', 'delivered', 'Unsubscribes per delivery', ', as a fraction (0.25 is 25%)'],
        ['spam_complaint_rate', 'spam_complaints', 'delivered', 'Spam complaints per delivery', ', as a fraction (0.25 is 25%)']
    ];
    metric CONSTANT text[] := ARRAY[
        ['conversion_metric_id', 'text', 'The conversion metric of the request, a part of the key. If several metrics are '
            'set, each has its own rows; the view first_metrics has the metric of the metrics tables.']
    ];
    metric_of_sums CONSTANT text[] := ARRAY[
        ['conversion_metric_id', 'text', 'The conversion metric of the report request.']
    ];
    channel CONSTANT text[] := ARRAY[
        ['send_channel', 'text', 'email, sms, push-notification or whatsapp, as the report names them; empty if it names none.']
    ];
    campaign_key CONSTANT text[] := ARRAY[
        ['campaign_id', 'text', 'Id of the campaign; empty if the report names none.'],
        ['campaign_message_id', 'text', 'Id of the message, as the report names it: it may be the campaign''s id. Empty if the report names none.']
    ] || channel;
    undated CONSTANT text[] := (
        SELECT array_agg(ARRAY[every[place][1], every[place][2], replace(every[place][3], ' and day', '')] ORDER BY place)
        FROM (SELECT counts || stated) AS statistics (every), generate_subscripts(every, 1) AS place
    );
BEGIN
    CALL create_report('flow_report', 'Klaviyo''s flow series report: one row per flow, message, channel and day.', ARRAY[
        ['flow_id', 'text', 'Id of the flow; empty if the report names none.'],
        ['flow_message_id', 'text', 'Id of the message within the flow; empty if the report names none.']
    ] || channel, 'Day of the send, in the account''s time zone.', counts || stated, metric);
    CALL create_metrics('flow_metrics', 'One row per flow and day: sums over the flow''s messages, and rates from those sums.', ARRAY[
        ['flow_id', 'text', 'Id of the flow.'],
        ['date', 'date', 'Day of the send, in the account''s time zone.'],
        ['flow_name', 'text', 'The flow''s latest name.'],
        ['flow_status', 'text', 'The flow''s latest status.'],
        ['trigger_type', 'text', 'The flow''s latest trigger type.'],
        ['messages', 'integer NOT NULL', 'Rows of the report that this row sums up: one per message and channel.']
    ], counts, rates, metric_of_sums, true);

    CALL create_report('campaign_report', 'Klaviyo''s campaign values report: one row per campaign, message and channel, on the day that the send of the message began.', campaign_key, 'Day on which the send of the message began (its send_time), in the account''s time zone.', counts || stated, metric);
    CALL create_metrics('campaign_metrics', 'One row per campaign and day on which the send of one of its messages began: sums over these messages, and rates from those sums.', ARRAY[
        ['campaign_id', 'text', 'Id of the campaign.'],
        ['date', 'date', 'Day on which the send of these messages began, in the account''s time zone.'],
        ['campaign_name', 'text', 'The campaign''s latest name.'],
        ['campaign_status', 'text', 'The campaign''s latest status.'],
        ['channel', 'text', 'The campaign''s channel: email, sms, mobile_push or whatsapp; the first of these if it has several.'],
        ['messages', 'integer NOT NULL', 'Rows of the report that this row sums up: one per message and channel.']
    ], counts, rates, metric_of_sums, true);

    CALL create_undated('campaign_report_undated', 'Rows of the campaign values report whose day is not known: the campaign is in no listing, or has no send time. Each row is stored once, and moves to campaign_report when its day is known.',
        campaign_key, undated, metric);
END
$$;
CREATE INDEX flow_metrics_name_idx ON flow_metrics USING hash (flow_name);
CREATE INDEX flow_metrics_status_idx ON flow_metrics (flow_status, date);
CREATE INDEX flow_metrics_trigger_type_idx ON flow_metrics (trigger_type, date);

DO $$
DECLARE
    counts CONSTANT text[] := ARRAY[
        ['viewed_form', 'numeric', 'Views of the form.'],
        ['viewed_form_uniques', 'numeric', 'People who viewed the form on that day.'],
        ['viewed_form_step', 'numeric', 'Views of a step of the form.'],
        ['viewed_form_step_uniques', 'numeric', 'People who viewed a step on that day.'],
        ['submits', 'numeric', 'Submits.'],
        ['submitted_form_step', 'numeric', 'Submits of a step.'],
        ['submitted_form_step_uniques', 'numeric', 'People who submitted a step on that day.'],
        ['closed_form', 'numeric', 'Closes of the form.'],
        ['closed_form_uniques', 'numeric', 'People who closed the form on that day.'],
        ['qualified_form', 'numeric', 'Times that a visitor qualified for the form.'],
        ['qualified_form_uniques', 'numeric', 'People who qualified on that day.']
    ];
BEGIN
    CALL create_report('form_report', 'Klaviyo''s form series report: one row per form and day.', ARRAY[
        ['form_id', 'text', 'Id of the form; empty if the report names none.']
    ], 'Day, in the account''s time zone.', counts || ARRAY[
        ['submit_rate', 'numeric', 'Submits per view, as Klaviyo states it; 0.25 is 25%.']
    ]);
    CALL create_metrics('form_metrics', 'One row per form and day: Klaviyo''s counts, and rates from them.', ARRAY[
        ['form_id', 'text', 'Id of the form.'],
        ['date', 'date', 'Day, in the account''s time zone.'],
        ['form_name', 'text', 'The form''s latest name.'],
        ['form_status', 'text', 'The form''s latest status.']
    ], counts, ARRAY[
        ['submit_rate', 'submits', 'viewed_form', 'Submits per view', ', as a fraction (0.25 is 25%)'],
        ['close_rate', 'closed_form', 'viewed_form', 'Closes per view', ', as a fraction (0.25 is 25%)']
    ]);
END
$$;

DO $$
DECLARE
    counts CONSTANT text[] := ARRAY[
        ['members_added', 'numeric', 'People who joined the segment on that day.'],
        ['members_removed', 'numeric', 'People who left the segment on that day.'],
        ['net_members_changed', 'numeric', 'People who joined minus people who left.'],
        ['total_members', 'numeric', 'Members at the end of the day.']
    ];
BEGIN
    CALL create_report('segment_report', 'Klaviyo''s segment series report: one row per segment and day.', ARRAY[
        ['segment_id', 'text', 'Id of the segment; empty if the report names none.']
    ], 'Day, in the account''s time zone.', counts);
    CALL create_metrics('segment_metrics', 'One row per segment and day: members, joins, leaves, and growth.', ARRAY[
        ['segment_id', 'text', 'Id of the segment.'],
        ['date', 'date', 'Day, in the account''s time zone.'],
        ['segment_name', 'text', 'The segment''s latest name.'],
        ['is_active', 'boolean', 'Whether the segment is active now.']
    ], counts, ARRAY[
        ['growth_rate', 'net_members_changed', '(total_members - net_members_changed)', 'Net change per member at the start of the day', ', as a fraction (0.25 is 25%)']
    ]);
END
$$;
