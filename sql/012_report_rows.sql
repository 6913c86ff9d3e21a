-- What Klaviyo's reports show without an id or a day keeps its figures, and says so.

ALTER TABLE flow_report ADD COLUMN groups integer NOT NULL DEFAULT 1;
ALTER TABLE campaign_report ADD COLUMN groups integer NOT NULL DEFAULT 1;
ALTER TABLE form_report ADD COLUMN groups integer NOT NULL DEFAULT 1;
ALTER TABLE segment_report ADD COLUMN groups integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN flow_report.groups IS 'Groups of Klaviyo''s answer that this row adds up: 1, unless several came with the same key. Then Klaviyo states no rates for the row.';
COMMENT ON COLUMN campaign_report.groups IS 'Groups of Klaviyo''s answer that this row adds up: 1, unless several came with the same key. Then Klaviyo states no rates for the row.';
COMMENT ON COLUMN form_report.groups IS 'Groups of Klaviyo''s answer that this row adds up: 1, unless several came with the same key. Then Klaviyo states no rates for the row.';
COMMENT ON COLUMN segment_report.groups IS 'Groups of Klaviyo''s answer that this row adds up: 1, unless several came with the same key. Then Klaviyo states no rates for the row.';
COMMENT ON COLUMN flow_report.flow_id IS 'Flow the messages belong to; empty where Klaviyo names none.';
COMMENT ON COLUMN form_report.form_id IS 'Form; empty where Klaviyo names none.';
COMMENT ON COLUMN segment_report.segment_id IS 'Segment; empty where Klaviyo names none.';

CREATE TABLE campaign_report_undated (
    campaign_id                       text NOT NULL,
    campaign_message_id               text NOT NULL,
    send_channel                      text NOT NULL,
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
    other_statistics                  jsonb,
    groups                            integer NOT NULL DEFAULT 1,
    asked_from                        date NOT NULL,
    asked_to                          date NOT NULL,
    observed_at                       timestamptz NOT NULL,
    PRIMARY KEY (campaign_id, campaign_message_id, send_channel)
);
COMMENT ON TABLE campaign_report_undated IS 'Rows of the campaign values report whose day is not known: the campaign is in no listing, or has no send time. Each stands once, and moves to campaign_report when the day is known.';
COMMENT ON COLUMN campaign_report_undated.campaign_id IS 'Campaign; empty where Klaviyo names none.';
COMMENT ON COLUMN campaign_report_undated.campaign_message_id IS 'Message within the campaign, as the report names it; empty where it names none. It may equal the campaign''s id.';
COMMENT ON COLUMN campaign_report_undated.send_channel IS 'email, sms, push-notification or whatsapp: the report''s own names; empty where Klaviyo names none.';
COMMENT ON COLUMN campaign_report_undated.recipients IS 'Messages sent.';
COMMENT ON COLUMN campaign_report_undated.delivered IS 'Messages delivered.';
COMMENT ON COLUMN campaign_report_undated.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN campaign_report_undated.opens_unique IS 'People who opened.';
COMMENT ON COLUMN campaign_report_undated.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN campaign_report_undated.clicks_unique IS 'People who clicked.';
COMMENT ON COLUMN campaign_report_undated.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN campaign_report_undated.conversion_uniques IS 'People who converted.';
COMMENT ON COLUMN campaign_report_undated.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN campaign_report_undated.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN campaign_report_undated.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN campaign_report_undated.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN campaign_report_undated.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN campaign_report_undated.unsubscribe_uniques IS 'People who unsubscribed.';
COMMENT ON COLUMN campaign_report_undated.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN campaign_report_undated.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN campaign_report_undated.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN campaign_report_undated.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN campaign_report_undated.open_rate IS 'As Klaviyo states it for this message: open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.click_rate IS 'As Klaviyo states it for this message: click rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.click_to_open_rate IS 'As Klaviyo states it for this message: click to open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.conversion_rate IS 'As Klaviyo states it for this message: conversion rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.revenue_per_recipient IS 'As Klaviyo states it for this message: revenue per recipient.';
COMMENT ON COLUMN campaign_report_undated.average_order_value IS 'As Klaviyo states it for this message: average order value.';
COMMENT ON COLUMN campaign_report_undated.bounce_rate IS 'As Klaviyo states it for this message: bounce rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.bounced_or_failed_rate IS 'As Klaviyo states it for this message: bounced or failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.failed_rate IS 'As Klaviyo states it for this message: failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.delivery_rate IS 'As Klaviyo states it for this message: delivery rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.unsubscribe_rate IS 'As Klaviyo states it for this message: unsubscribe rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.spam_complaint_rate IS 'As Klaviyo states it for this message: spam complaint rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_undated.text_message_roi IS 'Return on text message spend, as Klaviyo states it.';
COMMENT ON COLUMN campaign_report_undated.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN campaign_report_undated.observed_at IS 'When the request that brought these figures was made.';
COMMENT ON COLUMN campaign_report_undated.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none.';
COMMENT ON COLUMN campaign_report_undated.groups IS 'Groups of Klaviyo''s answer that this row adds up: 1, unless several came with the same key. Then Klaviyo states no rates for the row.';
COMMENT ON COLUMN campaign_report_undated.asked_from IS 'First day of the span that the figures were requested for.';
COMMENT ON COLUMN campaign_report_undated.asked_to IS 'Last day of that span.';

-- A report may write the campaign's id for the message's. The figures of a campaign, or of one of its channels, that has
-- one message belong to that message.
CREATE VIEW campaign_report_messages AS
SELECT
    figures.campaign_id,
    figures.campaign_message_id,
    figures.send_channel,
    figures.date,
    coalesce(named.id, single.id) AS message_id,
    CASE
        WHEN named.id IS NOT NULL THEN 'message id'
        WHEN single.id IS NOT NULL THEN 'only message'
        ELSE 'unknown'
    END AS matched_by
FROM campaign_report AS figures
LEFT JOIN campaign_messages AS named
    ON named.campaign_id = figures.campaign_id AND named.id = figures.campaign_message_id
LEFT JOIN LATERAL (
    -- Of a deleted campaign all messages are deleted, and still the ones that were sent.
    SELECT
        CASE
            WHEN count(*) = 1 THEN min(message.id)
            WHEN count(*) FILTER (WHERE message.is_of_channel) = 1 THEN min(message.id) FILTER (WHERE message.is_of_channel)
        END AS id
    FROM (
        SELECT
            one.id,
            one.channel = CASE figures.send_channel WHEN 'push-notification' THEN 'mobile_push' ELSE figures.send_channel END
                AS is_of_channel
        FROM campaign_messages AS one
        JOIN campaigns AS campaign ON campaign.id = one.campaign_id
        WHERE one.campaign_id = figures.campaign_id AND (one.deleted_at IS NULL OR campaign.deleted_at IS NOT NULL)
    ) AS message
) AS single ON named.id IS NULL;
COMMENT ON VIEW campaign_report_messages IS 'The message of each row of campaign_report, whichever id the report writes for it.';
COMMENT ON COLUMN campaign_report_messages.campaign_id IS 'As in campaign_report.';
COMMENT ON COLUMN campaign_report_messages.campaign_message_id IS 'As in campaign_report: the message''s id, the campaign''s, or empty.';
COMMENT ON COLUMN campaign_report_messages.send_channel IS 'As in campaign_report.';
COMMENT ON COLUMN campaign_report_messages.date IS 'As in campaign_report.';
COMMENT ON COLUMN campaign_report_messages.message_id IS 'Id in campaign_messages; null where the row cannot be attributed to one message.';
COMMENT ON COLUMN campaign_report_messages.matched_by IS 'message id (the report names the message), only message (the campaign, or its channel, has no other), or unknown.';
