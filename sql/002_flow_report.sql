-- The flow report: Klaviyo's own figures, as asked, and every earlier figure that asking again has replaced.
-- Days are days of the account. A day is replaced as a whole.

CREATE TABLE flow_report (
    flow_id                           text NOT NULL,
    flow_message_id                   text NOT NULL,
    send_channel                      text NOT NULL,
    date                              date NOT NULL,
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
    open_rate                         numeric,
    click_rate                        numeric,
    click_to_open_rate                numeric,
    conversion_rate                   numeric,
    revenue_per_recipient             numeric,
    average_order_value               numeric,
    bounce_rate                       numeric,
    bounced_or_failed_rate            numeric,
    failed_rate                       numeric,
    delivery_rate                     numeric,
    unsubscribe_rate                  numeric,
    spam_complaint_rate               numeric,
    text_message_roi                  numeric,
    conversion_metric_id              text,
    observed_at                       timestamptz NOT NULL,
    PRIMARY KEY (flow_id, flow_message_id, send_channel, date)
);
COMMENT ON TABLE flow_report IS 'Klaviyo''s flow series report: one row per flow, message, channel and day.';
COMMENT ON COLUMN flow_report.flow_id IS 'Flow the messages belong to.';
COMMENT ON COLUMN flow_report.flow_message_id IS 'Message within the flow; empty where Klaviyo names none.';
COMMENT ON COLUMN flow_report.send_channel IS 'email, sms, push-notification or whatsapp: the report''s own names; empty where Klaviyo names none.';
COMMENT ON COLUMN flow_report.date IS 'Day of the send, in the account''s time zone.';
COMMENT ON COLUMN flow_report.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN flow_report.delivered IS 'Messages delivered.';
COMMENT ON COLUMN flow_report.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN flow_report.opens_unique IS 'People who opened, by message and day.';
COMMENT ON COLUMN flow_report.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN flow_report.clicks_unique IS 'People who clicked, by message and day.';
COMMENT ON COLUMN flow_report.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN flow_report.conversion_uniques IS 'People who converted, by message and day.';
COMMENT ON COLUMN flow_report.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN flow_report.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN flow_report.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN flow_report.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN flow_report.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN flow_report.unsubscribe_uniques IS 'People who unsubscribed, by message and day.';
COMMENT ON COLUMN flow_report.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN flow_report.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN flow_report.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN flow_report.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN flow_report.open_rate IS 'As Klaviyo states it for this message and day: open rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.click_rate IS 'As Klaviyo states it for this message and day: click rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.click_to_open_rate IS 'As Klaviyo states it for this message and day: click to open rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.conversion_rate IS 'As Klaviyo states it for this message and day: conversion rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.revenue_per_recipient IS 'As Klaviyo states it for this message and day: revenue per recipient.';
COMMENT ON COLUMN flow_report.average_order_value IS 'As Klaviyo states it for this message and day: average order value.';
COMMENT ON COLUMN flow_report.bounce_rate IS 'As Klaviyo states it for this message and day: bounce rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.bounced_or_failed_rate IS 'As Klaviyo states it for this message and day: bounced or failed rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.failed_rate IS 'As Klaviyo states it for this message and day: failed rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.delivery_rate IS 'As Klaviyo states it for this message and day: delivery rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.unsubscribe_rate IS 'As Klaviyo states it for this message and day: unsubscribe rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.spam_complaint_rate IS 'As Klaviyo states it for this message and day: spam complaint rate, a fraction of 1.';
COMMENT ON COLUMN flow_report.text_message_roi IS 'Return on text message spend, as Klaviyo states it.';
COMMENT ON COLUMN flow_report.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN flow_report.observed_at IS 'When the request that brought these figures was made.';
CREATE INDEX flow_report_date_idx ON flow_report (date, flow_id);

CREATE TABLE flow_report_history (
    flow_id                           text NOT NULL,
    flow_message_id                   text NOT NULL,
    send_channel                      text NOT NULL,
    date                              date NOT NULL,
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
    open_rate                         numeric,
    click_rate                        numeric,
    click_to_open_rate                numeric,
    conversion_rate                   numeric,
    revenue_per_recipient             numeric,
    average_order_value               numeric,
    bounce_rate                       numeric,
    bounced_or_failed_rate            numeric,
    failed_rate                       numeric,
    delivery_rate                     numeric,
    unsubscribe_rate                  numeric,
    spam_complaint_rate               numeric,
    text_message_roi                  numeric,
    conversion_metric_id              text,
    valid_from                        timestamptz NOT NULL,
    valid_to                          timestamptz,
    PRIMARY KEY (flow_id, flow_message_id, send_channel, date, valid_from),
    CONSTRAINT flow_report_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE flow_report_history IS 'Every figure that the flow report ever showed for a day; a later answer that differs closes the row.';
COMMENT ON COLUMN flow_report_history.flow_id IS 'Flow the messages belong to.';
COMMENT ON COLUMN flow_report_history.flow_message_id IS 'Message within the flow; empty where Klaviyo names none.';
COMMENT ON COLUMN flow_report_history.send_channel IS 'email, sms, push-notification or whatsapp: the report''s own names; empty where Klaviyo names none.';
COMMENT ON COLUMN flow_report_history.date IS 'Day of the send, in the account''s time zone.';
COMMENT ON COLUMN flow_report_history.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN flow_report_history.delivered IS 'Messages delivered.';
COMMENT ON COLUMN flow_report_history.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN flow_report_history.opens_unique IS 'People who opened, by message and day.';
COMMENT ON COLUMN flow_report_history.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN flow_report_history.clicks_unique IS 'People who clicked, by message and day.';
COMMENT ON COLUMN flow_report_history.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN flow_report_history.conversion_uniques IS 'People who converted, by message and day.';
COMMENT ON COLUMN flow_report_history.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN flow_report_history.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN flow_report_history.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN flow_report_history.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN flow_report_history.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN flow_report_history.unsubscribe_uniques IS 'People who unsubscribed, by message and day.';
COMMENT ON COLUMN flow_report_history.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN flow_report_history.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN flow_report_history.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN flow_report_history.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN flow_report_history.open_rate IS 'As Klaviyo states it for this message and day: open rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.click_rate IS 'As Klaviyo states it for this message and day: click rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.click_to_open_rate IS 'As Klaviyo states it for this message and day: click to open rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.conversion_rate IS 'As Klaviyo states it for this message and day: conversion rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.revenue_per_recipient IS 'As Klaviyo states it for this message and day: revenue per recipient.';
COMMENT ON COLUMN flow_report_history.average_order_value IS 'As Klaviyo states it for this message and day: average order value.';
COMMENT ON COLUMN flow_report_history.bounce_rate IS 'As Klaviyo states it for this message and day: bounce rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.bounced_or_failed_rate IS 'As Klaviyo states it for this message and day: bounced or failed rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.failed_rate IS 'As Klaviyo states it for this message and day: failed rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.delivery_rate IS 'As Klaviyo states it for this message and day: delivery rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.unsubscribe_rate IS 'As Klaviyo states it for this message and day: unsubscribe rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.spam_complaint_rate IS 'As Klaviyo states it for this message and day: spam complaint rate, a fraction of 1.';
COMMENT ON COLUMN flow_report_history.text_message_roi IS 'Return on text message spend, as Klaviyo states it.';
COMMENT ON COLUMN flow_report_history.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN flow_report_history.valid_from IS 'When these figures were first observed.';
COMMENT ON COLUMN flow_report_history.valid_to IS 'When other figures, or none, were first observed; null for the present ones.';
CREATE UNIQUE INDEX flow_report_history_open_idx ON flow_report_history (flow_id, flow_message_id, send_channel, date)
    WHERE valid_to IS NULL;

-- Rates are computed here and nowhere else for a day: from the day's sums, null where the divisor is 0.
CREATE TABLE flow_metrics (
    flow_id                               text NOT NULL,
    date                                  date NOT NULL,
    flow_name                             text,
    flow_status                           text,
    trigger_type                          text,
    messages                              integer NOT NULL,
    recipients                            numeric,
    delivered                             numeric,
    opens                                 numeric,
    opens_unique                          numeric,
    clicks                                numeric,
    clicks_unique                         numeric,
    conversions                           numeric,
    conversion_uniques                    numeric,
    conversion_value                      numeric,
    bounced                               numeric,
    bounced_or_failed                     numeric,
    failed                                numeric,
    unsubscribes                          numeric,
    unsubscribe_uniques                   numeric,
    spam_complaints                       numeric,
    message_segment_count_sum             numeric,
    text_message_credit_usage_amount      numeric,
    text_message_spend                    numeric,
    open_rate                             numeric GENERATED ALWAYS AS (opens_unique / nullif(delivered, 0)) STORED,
    click_rate                            numeric GENERATED ALWAYS AS (clicks_unique / nullif(delivered, 0)) STORED,
    click_to_open_rate                    numeric GENERATED ALWAYS AS (clicks_unique / nullif(opens_unique, 0)) STORED,
    conversion_rate                       numeric GENERATED ALWAYS AS (conversion_uniques / nullif(delivered, 0)) STORED,
    revenue_per_recipient                 numeric GENERATED ALWAYS AS (conversion_value / nullif(delivered, 0)) STORED,
    average_order_value                   numeric GENERATED ALWAYS AS (conversion_value / nullif(conversions, 0)) STORED,
    bounce_rate                           numeric GENERATED ALWAYS AS (bounced / nullif(recipients, 0)) STORED,
    delivery_rate                         numeric GENERATED ALWAYS AS (delivered / nullif(recipients, 0)) STORED,
    unsubscribe_rate                      numeric GENERATED ALWAYS AS (unsubscribe_uniques / nullif(delivered, 0)) STORED,
    spam_complaint_rate                   numeric GENERATED ALWAYS AS (spam_complaints / nullif(delivered, 0)) STORED,
    conversion_metric_id                  text,
    observed_at                           timestamptz NOT NULL,
    PRIMARY KEY (flow_id, date)
);
COMMENT ON TABLE flow_metrics IS 'One row per flow and day: sums over the flow''s messages, and rates from those sums.';
COMMENT ON COLUMN flow_metrics.flow_id IS 'Flow.';
COMMENT ON COLUMN flow_metrics.date IS 'Day of the send, in the account''s time zone.';
COMMENT ON COLUMN flow_metrics.flow_name IS 'The flow''s latest name.';
COMMENT ON COLUMN flow_metrics.flow_status IS 'The flow''s latest status.';
COMMENT ON COLUMN flow_metrics.trigger_type IS 'The flow''s latest trigger type.';
COMMENT ON COLUMN flow_metrics.messages IS 'Messages of the flow with figures on that day.';
COMMENT ON COLUMN flow_metrics.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN flow_metrics.delivered IS 'Messages delivered.';
COMMENT ON COLUMN flow_metrics.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN flow_metrics.opens_unique IS 'People who opened, by message and day. Sum of the messages'' daily uniques: do not add it up over days.';
COMMENT ON COLUMN flow_metrics.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN flow_metrics.clicks_unique IS 'People who clicked, by message and day. Sum of the messages'' daily uniques: do not add it up over days.';
COMMENT ON COLUMN flow_metrics.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN flow_metrics.conversion_uniques IS 'People who converted, by message and day. Sum of the messages'' daily uniques: do not add it up over days.';
COMMENT ON COLUMN flow_metrics.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN flow_metrics.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN flow_metrics.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN flow_metrics.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN flow_metrics.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN flow_metrics.unsubscribe_uniques IS 'People who unsubscribed, by message and day. Sum of the messages'' daily uniques: do not add it up over days.';
COMMENT ON COLUMN flow_metrics.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN flow_metrics.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN flow_metrics.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN flow_metrics.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN flow_metrics.open_rate IS 'Opens per delivery: opens_unique / delivered, from the sum of the messages'' daily uniques; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.click_rate IS 'Clicks per delivery: clicks_unique / delivered, from the sum of the messages'' daily uniques; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.click_to_open_rate IS 'Clicks per open: clicks_unique / opens_unique, from the sum of the messages'' daily uniques; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.conversion_rate IS 'Conversions per delivery: conversion_uniques / delivered, from the sum of the messages'' daily uniques; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.revenue_per_recipient IS 'Revenue per delivery: conversion_value / delivered, in the account''s currency; null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.average_order_value IS 'Revenue per conversion: conversion_value / conversions, in the account''s currency; null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.bounce_rate IS 'Bounces per recipient: bounced / recipients; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.delivery_rate IS 'Deliveries per recipient: delivered / recipients; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.unsubscribe_rate IS 'Unsubscribes per delivery: unsubscribe_uniques / delivered, from the sum of the messages'' daily uniques; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.spam_complaint_rate IS 'Spam complaints per delivery: spam_complaints / delivered; a fraction of 1, null where the divisor is 0.';
COMMENT ON COLUMN flow_metrics.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN flow_metrics.observed_at IS 'When these sums were computed.';
CREATE INDEX flow_metrics_date_idx ON flow_metrics (date);
CREATE INDEX flow_metrics_name_idx ON flow_metrics USING hash (flow_name);
CREATE INDEX flow_metrics_status_idx ON flow_metrics (flow_status, date);
CREATE INDEX flow_metrics_trigger_type_idx ON flow_metrics (trigger_type, date);

CREATE FUNCTION flow_metrics_between(first_day date, last_day date)
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
    SELECT
        m.flow_id,
        max(m.flow_name),
        max(m.flow_status),
        max(m.trigger_type),
        count(*),
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
    FROM flow_metrics m
    WHERE m.date BETWEEN first_day AND last_day
    GROUP BY m.flow_id;
END;
COMMENT ON FUNCTION flow_metrics_between(date, date) IS 'Each flow over a span of days, both ends included. Counts are summed. Rates that rest on uniques are averages of the daily rates weighted by deliveries (opens for click_to_open_rate), not the uniques of the span.';
