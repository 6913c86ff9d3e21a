-- A conversion metric may refuse some statistics of a report. The others are stored; what is refused is null.

CREATE TABLE conversion_refusals (
    report      text NOT NULL,
    metric_id   text NOT NULL,
    statistics  text[] NOT NULL,
    refused_at  timestamptz NOT NULL,
    PRIMARY KEY (report, metric_id)
);
COMMENT ON TABLE conversion_refusals IS 'Which statistics Klaviyo refuses for a conversion metric, by report. A refusal holds for 20 hours; then all statistics are asked for again.';
COMMENT ON COLUMN conversion_refusals.report IS 'Klaviyo''s report, such as "flow series".';
COMMENT ON COLUMN conversion_refusals.metric_id IS 'The conversion metric it was asked with.';
COMMENT ON COLUMN conversion_refusals.statistics IS 'The refused statistics, by Klaviyo''s name; all of the report''s where the metric gives no figures at all.';
COMMENT ON COLUMN conversion_refusals.refused_at IS 'When Klaviyo refused them.';

-- It was one list for all reports, and never forgotten.
ALTER TABLE account DROP COLUMN ineligible_metric_ids;

ALTER TABLE sync_windows ADD COLUMN refused_statistics text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN sync_windows.refused_statistics IS 'Reports: the statistics that Klaviyo refused for the metric; they are null in the rows of the window.';

CREATE OR REPLACE VIEW report_days AS
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
WHERE ledger.entity LIKE '%\_report' AND ledger.status = 'synced';
COMMENT ON COLUMN report_days.refused_statistics IS 'Statistics that Klaviyo refused for the metric; they are null in the rows of the day.';

-- A sum is not known where a part of it is not: the revenue of a month in which Klaviyo refused that of a day is null.
CREATE OR REPLACE FUNCTION flow_metrics_add_up(flow_ids text[], months date[]) RETURNS void
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
        CASE WHEN count(part.conversion_value) = count(*) THEN sum(part.conversion_value) END,
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
        CASE WHEN count(part.conversion_value) = count(*) THEN sum(part.conversion_value) END,
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
        CASE WHEN count(m.conversion_value) = count(*) THEN sum(m.conversion_value) END,
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
        CASE WHEN count(m.conversion_value) = count(*) THEN sum(m.conversion_value) END / nullif(sum(m.delivered), 0),
        CASE WHEN count(m.conversion_value) = count(*) THEN sum(m.conversion_value) END / nullif(sum(m.conversions), 0),
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
COMMENT ON FUNCTION flow_metrics_between(date, date) IS 'Each flow over a span of days, both ends included. Counts are summed. Revenue, and what derives from it, is null where that of a day is not known. Rates that rest on uniques are averages of the daily rates weighted by deliveries (opens for click_to_open_rate), not the uniques of the span.';
