-- Sums by calendar month and quarter, kept by the transaction that changes the days: a year is four rows of a flow.
--
-- A statement that writes to flow_metrics adds up anew the months and quarters of the flows that it touched, whoever
-- runs it. Sums of numerics are exact: a span's figures come out digit for digit as from its days.

CREATE TABLE flow_metrics_monthly (
    flow_id                           text NOT NULL,
    month                             date NOT NULL,
    flow_name                         text,
    flow_status                       text,
    trigger_type                      text,
    days                              bigint NOT NULL,
    recipients                        numeric,
    delivered                         numeric,
    opens                             numeric,
    opens_unique                      numeric,
    clicks                            numeric,
    clicks_unique                     numeric,
    conversions                       numeric,
    conversion_uniques                numeric,
    conversion_value                  numeric,
    bounced                           numeric,
    bounced_or_failed                 numeric,
    failed                            numeric,
    unsubscribes                      numeric,
    unsubscribe_uniques               numeric,
    spam_complaints                   numeric,
    message_segment_count_sum         numeric,
    text_message_credit_usage_amount  numeric,
    text_message_spend                numeric,
    PRIMARY KEY (flow_id, month)
);
COMMENT ON TABLE flow_metrics_monthly IS 'Sums of flow_metrics by flow and calendar month, kept by triggers on flow_metrics: never behind it, and not to be written to. flow_metrics_between reads it.';
COMMENT ON COLUMN flow_metrics_monthly.flow_id IS 'Flow.';
COMMENT ON COLUMN flow_metrics_monthly.month IS 'First day of the month, in the account''s time zone.';
COMMENT ON COLUMN flow_metrics_monthly.flow_name IS 'The flow''s name on the month''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_monthly.flow_status IS 'The flow''s status on the month''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_monthly.trigger_type IS 'The flow''s trigger type on the month''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_monthly.days IS 'Days of the month that have a row in flow_metrics.';
COMMENT ON COLUMN flow_metrics_monthly.recipients IS 'Messages sent.';
COMMENT ON COLUMN flow_metrics_monthly.delivered IS 'Messages delivered.';
COMMENT ON COLUMN flow_metrics_monthly.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN flow_metrics_monthly.opens_unique IS 'People who opened, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the month.';
COMMENT ON COLUMN flow_metrics_monthly.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN flow_metrics_monthly.clicks_unique IS 'People who clicked, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the month.';
COMMENT ON COLUMN flow_metrics_monthly.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN flow_metrics_monthly.conversion_uniques IS 'People who converted, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the month.';
COMMENT ON COLUMN flow_metrics_monthly.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN flow_metrics_monthly.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN flow_metrics_monthly.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN flow_metrics_monthly.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN flow_metrics_monthly.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN flow_metrics_monthly.unsubscribe_uniques IS 'People who unsubscribed, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the month.';
COMMENT ON COLUMN flow_metrics_monthly.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN flow_metrics_monthly.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN flow_metrics_monthly.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN flow_metrics_monthly.text_message_spend IS 'Money spent on text messages.';
CREATE INDEX flow_metrics_monthly_month_idx ON flow_metrics_monthly (month);

CREATE TABLE flow_metrics_quarterly (
    flow_id                           text NOT NULL,
    quarter                           date NOT NULL,
    flow_name                         text,
    flow_status                       text,
    trigger_type                      text,
    days                              bigint NOT NULL,
    recipients                        numeric,
    delivered                         numeric,
    opens                             numeric,
    opens_unique                      numeric,
    clicks                            numeric,
    clicks_unique                     numeric,
    conversions                       numeric,
    conversion_uniques                numeric,
    conversion_value                  numeric,
    bounced                           numeric,
    bounced_or_failed                 numeric,
    failed                            numeric,
    unsubscribes                      numeric,
    unsubscribe_uniques               numeric,
    spam_complaints                   numeric,
    message_segment_count_sum         numeric,
    text_message_credit_usage_amount  numeric,
    text_message_spend                numeric,
    PRIMARY KEY (flow_id, quarter)
);
COMMENT ON TABLE flow_metrics_quarterly IS 'Sums of flow_metrics by flow and calendar quarter, kept by triggers on flow_metrics: never behind it, and not to be written to. flow_metrics_between reads it.';
COMMENT ON COLUMN flow_metrics_quarterly.flow_id IS 'Flow.';
COMMENT ON COLUMN flow_metrics_quarterly.quarter IS 'First day of the quarter, in the account''s time zone.';
COMMENT ON COLUMN flow_metrics_quarterly.flow_name IS 'The flow''s name on the quarter''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_quarterly.flow_status IS 'The flow''s status on the quarter''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_quarterly.trigger_type IS 'The flow''s trigger type on the quarter''s days, which is its latest; of several the last in alphabetical order.';
COMMENT ON COLUMN flow_metrics_quarterly.days IS 'Days of the quarter that have a row in flow_metrics.';
COMMENT ON COLUMN flow_metrics_quarterly.recipients IS 'Messages sent.';
COMMENT ON COLUMN flow_metrics_quarterly.delivered IS 'Messages delivered.';
COMMENT ON COLUMN flow_metrics_quarterly.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN flow_metrics_quarterly.opens_unique IS 'People who opened, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the quarter.';
COMMENT ON COLUMN flow_metrics_quarterly.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN flow_metrics_quarterly.clicks_unique IS 'People who clicked, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the quarter.';
COMMENT ON COLUMN flow_metrics_quarterly.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN flow_metrics_quarterly.conversion_uniques IS 'People who converted, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the quarter.';
COMMENT ON COLUMN flow_metrics_quarterly.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN flow_metrics_quarterly.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN flow_metrics_quarterly.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN flow_metrics_quarterly.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN flow_metrics_quarterly.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN flow_metrics_quarterly.unsubscribe_uniques IS 'People who unsubscribed, by message and day. Sum of the days'' sums, for weighted rates: not the uniques of the quarter.';
COMMENT ON COLUMN flow_metrics_quarterly.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN flow_metrics_quarterly.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN flow_metrics_quarterly.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN flow_metrics_quarterly.text_message_spend IS 'Money spent on text messages.';
CREATE INDEX flow_metrics_quarterly_quarter_idx ON flow_metrics_quarterly (quarter);

CREATE FUNCTION flow_metrics_add_up(flow_ids text[], months date[]) RETURNS void
LANGUAGE sql VOLATILE BEGIN ATOMIC
    -- What was touched is written even where its sums come out as before: of two transactions that see each other's
    -- rows too late (repeatable read), the second then fails instead of leaving a sum behind.
    DELETE FROM flow_metrics_monthly AS old
    USING unnest(flow_ids, months) AS touched (flow_id, month)
    WHERE old.flow_id = touched.flow_id AND old.month = touched.month;

    INSERT INTO flow_metrics_monthly (
        flow_id,
        month,
        flow_name,
        flow_status,
        trigger_type,
        days,
        recipients,
        delivered,
        opens,
        opens_unique,
        clicks,
        clicks_unique,
        conversions,
        conversion_uniques,
        conversion_value,
        bounced,
        bounced_or_failed,
        failed,
        unsubscribes,
        unsubscribe_uniques,
        spam_complaints,
        message_segment_count_sum,
        text_message_credit_usage_amount,
        text_message_spend
    )
    SELECT
        touched.flow_id,
        touched.month,
        max(part.flow_name),
        max(part.flow_status),
        max(part.trigger_type),
        count(*),
        sum(part.recipients),
        sum(part.delivered),
        sum(part.opens),
        sum(part.opens_unique),
        sum(part.clicks),
        sum(part.clicks_unique),
        sum(part.conversions),
        sum(part.conversion_uniques),
        sum(part.conversion_value),
        sum(part.bounced),
        sum(part.bounced_or_failed),
        sum(part.failed),
        sum(part.unsubscribes),
        sum(part.unsubscribe_uniques),
        sum(part.spam_complaints),
        sum(part.message_segment_count_sum),
        sum(part.text_message_credit_usage_amount),
        sum(part.text_message_spend)
    FROM unnest(flow_ids, months) AS touched (flow_id, month)
    JOIN flow_metrics AS part
        ON part.flow_id = touched.flow_id
        AND part.date >= touched.month
        AND part.date < (touched.month + interval '1 month')::date
    GROUP BY touched.flow_id, touched.month
    ORDER BY touched.month, touched.flow_id;

    DELETE FROM flow_metrics_quarterly AS old
    USING (
        SELECT DISTINCT pair.flow_id, date_trunc('quarter', pair.month::timestamp)::date AS quarter
        FROM unnest(flow_ids, months) AS pair (flow_id, month)
    ) AS touched
    WHERE old.flow_id = touched.flow_id AND old.quarter = touched.quarter;

    INSERT INTO flow_metrics_quarterly (
        flow_id,
        quarter,
        flow_name,
        flow_status,
        trigger_type,
        days,
        recipients,
        delivered,
        opens,
        opens_unique,
        clicks,
        clicks_unique,
        conversions,
        conversion_uniques,
        conversion_value,
        bounced,
        bounced_or_failed,
        failed,
        unsubscribes,
        unsubscribe_uniques,
        spam_complaints,
        message_segment_count_sum,
        text_message_credit_usage_amount,
        text_message_spend
    )
    SELECT
        touched.flow_id,
        touched.quarter,
        max(part.flow_name),
        max(part.flow_status),
        max(part.trigger_type),
        sum(part.days)::bigint,
        sum(part.recipients),
        sum(part.delivered),
        sum(part.opens),
        sum(part.opens_unique),
        sum(part.clicks),
        sum(part.clicks_unique),
        sum(part.conversions),
        sum(part.conversion_uniques),
        sum(part.conversion_value),
        sum(part.bounced),
        sum(part.bounced_or_failed),
        sum(part.failed),
        sum(part.unsubscribes),
        sum(part.unsubscribe_uniques),
        sum(part.spam_complaints),
        sum(part.message_segment_count_sum),
        sum(part.text_message_credit_usage_amount),
        sum(part.text_message_spend)
    FROM (
        SELECT DISTINCT pair.flow_id, date_trunc('quarter', pair.month::timestamp)::date AS quarter
        FROM unnest(flow_ids, months) AS pair (flow_id, month)
    ) AS touched
    JOIN flow_metrics_monthly AS part
        ON part.flow_id = touched.flow_id
        AND part.month >= touched.quarter
        AND part.month < (touched.quarter + interval '3 months')::date
    GROUP BY touched.flow_id, touched.quarter
    ORDER BY touched.quarter, touched.flow_id;
END;
COMMENT ON FUNCTION flow_metrics_add_up(text[], date[]) IS 'Nothing: adds up anew these months of these flows, pair by pair, and their quarters. The triggers on flow_metrics call it.';

CREATE FUNCTION flow_metrics_add_up_all() RETURNS void
LANGUAGE sql VOLATILE BEGIN ATOMIC
    SELECT pg_advisory_xact_lock(
        hashtextextended('klaviyo_pipeline sums of ' || 'flow_metrics'::regclass::oid::text, 0)
    );
    DELETE FROM flow_metrics_monthly;
    DELETE FROM flow_metrics_quarterly;
    SELECT flow_metrics_add_up(array_agg(pair.flow_id), array_agg(pair.month))
    FROM (SELECT DISTINCT flow_id, date_trunc('month', date::timestamp)::date AS month FROM flow_metrics) AS pair;
END;
COMMENT ON FUNCTION flow_metrics_add_up_all() IS 'Nothing: adds up anew every month and quarter of every flow. Needed only after flow_metrics was written to with its triggers switched off.';

CREATE FUNCTION flow_metrics_take_turns() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Before the first row is locked, so that two writers never wait for each other in a circle. The one that comes
    -- later adds up what the earlier has committed.
    PERFORM pg_advisory_xact_lock(hashtextextended('klaviyo_pipeline sums of ' || TG_RELID::text, 0));
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION flow_metrics_take_turns() IS 'Trigger of flow_metrics: whoever writes to it waits for the transactions that have written.';

CREATE FUNCTION flow_metrics_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    flow_ids text[];
    months date[];
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT array_agg(pair.flow_id), array_agg(pair.month) INTO flow_ids, months
        FROM (
            SELECT flow_id, date_trunc('month', date::timestamp)::date AS month FROM touched
            UNION
            SELECT flow_id, date_trunc('month', date::timestamp)::date FROM replaced
        ) AS pair;
    ELSE
        SELECT array_agg(pair.flow_id), array_agg(pair.month) INTO flow_ids, months
        FROM (SELECT DISTINCT flow_id, date_trunc('month', date::timestamp)::date AS month FROM touched) AS pair;
    END IF;
    IF flow_ids IS NOT NULL THEN
        EXECUTE format('SELECT %I.flow_metrics_add_up($1, $2)', TG_TABLE_SCHEMA) USING flow_ids, months;
    END IF;
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION flow_metrics_changed() IS 'Trigger of flow_metrics: adds up the months of the rows that a statement inserted, updated or deleted.';

CREATE FUNCTION flow_metrics_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Not TRUNCATE: the statement that fired this may be emptying these tables too.
    EXECUTE format('DELETE FROM %I.flow_metrics_monthly', TG_TABLE_SCHEMA);
    EXECUTE format('DELETE FROM %I.flow_metrics_quarterly', TG_TABLE_SCHEMA);
    RETURN NULL;
END;
$$;
COMMENT ON FUNCTION flow_metrics_emptied() IS 'Trigger of flow_metrics: without days there are no months.';

CREATE TRIGGER flow_metrics_take_turns BEFORE INSERT OR UPDATE OR DELETE ON flow_metrics
    FOR EACH STATEMENT EXECUTE FUNCTION flow_metrics_take_turns();
CREATE TRIGGER flow_metrics_inserted AFTER INSERT ON flow_metrics
    REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION flow_metrics_changed();
CREATE TRIGGER flow_metrics_updated AFTER UPDATE ON flow_metrics
    REFERENCING OLD TABLE AS replaced NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION flow_metrics_changed();
CREATE TRIGGER flow_metrics_deleted AFTER DELETE ON flow_metrics
    REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION flow_metrics_changed();
CREATE TRIGGER flow_metrics_emptied AFTER TRUNCATE ON flow_metrics
    FOR EACH STATEMENT EXECUTE FUNCTION flow_metrics_emptied();

-- The triggers lock writers out until the end of this transaction: no day escapes.
SELECT flow_metrics_add_up_all();

CREATE OR REPLACE FUNCTION flow_metrics_between(first_day date, last_day date)
RETURNS TABLE (
    flow_id text,
    flow_name text,
    flow_status text,
    trigger_type text,
    days bigint,
    recipients numeric,
    delivered numeric,
    opens numeric,
    clicks numeric,
    conversions numeric,
    conversion_value numeric,
    bounced numeric,
    bounced_or_failed numeric,
    failed numeric,
    unsubscribes numeric,
    spam_complaints numeric,
    message_segment_count_sum numeric,
    text_message_credit_usage_amount numeric,
    text_message_spend numeric,
    open_rate numeric,
    click_rate numeric,
    click_to_open_rate numeric,
    conversion_rate numeric,
    revenue_per_recipient numeric,
    average_order_value numeric,
    bounce_rate numeric,
    delivery_rate numeric,
    unsubscribe_rate numeric,
    spam_complaint_rate numeric
)
LANGUAGE sql STABLE BEGIN ATOMIC
    -- The whole quarters and months of the span: "from" is the first that begins in it, "to" the end of the last.
    -- Where there is none, "to" is not after "from".
    WITH whole AS NOT MATERIALIZED (
        SELECT
            (date_trunc('quarter', (first_day - 1)::timestamp) + interval '3 months')::date AS quarters_from,
            date_trunc('quarter', (last_day + 1)::timestamp)::date AS quarters_to,
            (date_trunc('month', (first_day - 1)::timestamp) + interval '1 month')::date AS months_from,
            date_trunc('month', (last_day + 1)::timestamp)::date AS months_to
    )
    SELECT
        m.flow_id,
        max(m.flow_name),
        max(m.flow_status),
        max(m.trigger_type),
        sum(m.days)::bigint,
        sum(m.recipients),
        sum(m.delivered),
        sum(m.opens),
        sum(m.clicks),
        sum(m.conversions),
        sum(m.conversion_value),
        sum(m.bounced),
        sum(m.bounced_or_failed),
        sum(m.failed),
        sum(m.unsubscribes),
        sum(m.spam_complaints),
        sum(m.message_segment_count_sum),
        sum(m.text_message_credit_usage_amount),
        sum(m.text_message_spend),
        sum(m.opens_unique) / nullif(sum(m.delivered), 0),
        sum(m.clicks_unique) / nullif(sum(m.delivered), 0),
        sum(m.clicks_unique) / nullif(sum(m.opens_unique), 0),
        sum(m.conversion_uniques) / nullif(sum(m.delivered), 0),
        sum(m.conversion_value) / nullif(sum(m.delivered), 0),
        sum(m.conversion_value) / nullif(sum(m.conversions), 0),
        sum(m.bounced) / nullif(sum(m.recipients), 0),
        sum(m.delivered) / nullif(sum(m.recipients), 0),
        sum(m.unsubscribe_uniques) / nullif(sum(m.delivered), 0),
        sum(m.spam_complaints) / nullif(sum(m.delivered), 0)
    FROM (
        -- The quarters that lie wholly in the span,
        SELECT
            part.flow_id,
            part.flow_name,
            part.flow_status,
            part.trigger_type,
            part.days,
            part.recipients,
            part.delivered,
            part.opens,
            part.opens_unique,
            part.clicks,
            part.clicks_unique,
            part.conversions,
            part.conversion_uniques,
            part.conversion_value,
            part.bounced,
            part.bounced_or_failed,
            part.failed,
            part.unsubscribes,
            part.unsubscribe_uniques,
            part.spam_complaints,
            part.message_segment_count_sum,
            part.text_message_credit_usage_amount,
            part.text_message_spend
        FROM flow_metrics_quarterly AS part
        CROSS JOIN whole
        WHERE part.quarter >= whole.quarters_from AND part.quarter < whole.quarters_to
        UNION ALL
        -- the other whole months, before them
        SELECT
            part.flow_id,
            part.flow_name,
            part.flow_status,
            part.trigger_type,
            part.days,
            part.recipients,
            part.delivered,
            part.opens,
            part.opens_unique,
            part.clicks,
            part.clicks_unique,
            part.conversions,
            part.conversion_uniques,
            part.conversion_value,
            part.bounced,
            part.bounced_or_failed,
            part.failed,
            part.unsubscribes,
            part.unsubscribe_uniques,
            part.spam_complaints,
            part.message_segment_count_sum,
            part.text_message_credit_usage_amount,
            part.text_message_spend
        FROM flow_metrics_monthly AS part
        CROSS JOIN whole
        WHERE part.month >= whole.months_from AND part.month < whole.months_to AND part.month < whole.quarters_from
        UNION ALL
        -- and after,
        SELECT
            part.flow_id,
            part.flow_name,
            part.flow_status,
            part.trigger_type,
            part.days,
            part.recipients,
            part.delivered,
            part.opens,
            part.opens_unique,
            part.clicks,
            part.clicks_unique,
            part.conversions,
            part.conversion_uniques,
            part.conversion_value,
            part.bounced,
            part.bounced_or_failed,
            part.failed,
            part.unsubscribes,
            part.unsubscribe_uniques,
            part.spam_complaints,
            part.message_segment_count_sum,
            part.text_message_credit_usage_amount,
            part.text_message_spend
        FROM flow_metrics_monthly AS part
        CROSS JOIN whole
        WHERE part.month >= whole.months_from AND part.month < whole.months_to
            AND part.month >= whole.quarters_from AND part.month >= whole.quarters_to
        UNION ALL
        -- and the days of the edges.
        SELECT
            part.flow_id,
            part.flow_name,
            part.flow_status,
            part.trigger_type,
            1,
            part.recipients,
            part.delivered,
            part.opens,
            part.opens_unique,
            part.clicks,
            part.clicks_unique,
            part.conversions,
            part.conversion_uniques,
            part.conversion_value,
            part.bounced,
            part.bounced_or_failed,
            part.failed,
            part.unsubscribes,
            part.unsubscribe_uniques,
            part.spam_complaints,
            part.message_segment_count_sum,
            part.text_message_credit_usage_amount,
            part.text_message_spend
        FROM flow_metrics AS part
        CROSS JOIN whole
        WHERE part.date >= first_day AND part.date <= last_day AND part.date < whole.months_from
        UNION ALL
        SELECT
            part.flow_id,
            part.flow_name,
            part.flow_status,
            part.trigger_type,
            1,
            part.recipients,
            part.delivered,
            part.opens,
            part.opens_unique,
            part.clicks,
            part.clicks_unique,
            part.conversions,
            part.conversion_uniques,
            part.conversion_value,
            part.bounced,
            part.bounced_or_failed,
            part.failed,
            part.unsubscribes,
            part.unsubscribe_uniques,
            part.spam_complaints,
            part.message_segment_count_sum,
            part.text_message_credit_usage_amount,
            part.text_message_spend
        FROM flow_metrics AS part
        CROSS JOIN whole
        WHERE part.date >= first_day AND part.date <= last_day
            AND part.date >= whole.months_from AND part.date >= whole.months_to
    ) AS m
    GROUP BY m.flow_id;
END;

-- The days of the quarters are the rows of flow_metrics, and far fewer to read; all else is counted as before. The windows'
-- states are made out once, for all assets together.
CREATE OR REPLACE VIEW sync_status AS
WITH states AS MATERIALIZED (
    SELECT * FROM window_states
),
begun AS (
    SELECT entity, min(window_start) AS since
    FROM states
    WHERE state IN ('synced', 'open')
    GROUP BY entity
),
-- The first window after the earliest synced one that is not done: nothing beyond it counts.
broken AS (
    SELECT gap.entity, min(gap.window_start) AS at
    FROM states AS gap
    JOIN begun ON begun.entity = gap.entity AND gap.window_start >= begun.since
    WHERE gap.state <> 'synced'
    GROUP BY gap.entity
),
counted AS (
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
    asset.row_count,
    counted.last_error
FROM (
    SELECT 1, 'flows', count(*) FILTER (WHERE deleted_at IS NULL) FROM flows
    UNION ALL SELECT 2, 'campaigns', count(*) FILTER (WHERE deleted_at IS NULL) FROM campaigns
    UNION ALL SELECT 3, 'forms', count(*) FILTER (WHERE deleted_at IS NULL) FROM forms
    UNION ALL SELECT 4, 'segments', count(*) FILTER (WHERE deleted_at IS NULL) FROM segments
    UNION ALL SELECT 5, 'flow_report', count(*) FROM flow_report
    UNION ALL SELECT 6, 'flow_metrics', coalesce(sum(days), 0)::bigint FROM flow_metrics_quarterly
    UNION ALL SELECT 7, 'campaign_report', count(*) FROM campaign_report
    UNION ALL SELECT 8, 'campaign_metrics', count(*) FROM campaign_metrics
    UNION ALL SELECT 9, 'form_report', count(*) FROM form_report
    UNION ALL SELECT 10, 'form_metrics', count(*) FROM form_metrics
    UNION ALL SELECT 11, 'segment_report', count(*) FROM segment_report
    UNION ALL SELECT 12, 'segment_metrics', count(*) FROM segment_metrics
) AS asset (position, entity, row_count)
LEFT JOIN counted ON counted.entity = asset.entity
ORDER BY asset.position;
