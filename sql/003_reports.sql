-- The reports of campaigns, forms and segments, what is computed from them, and what Klaviyo restated.
-- Days are days of the account. A day is replaced as a whole.

CREATE TABLE campaign_report (
    campaign_id                       text NOT NULL,
    campaign_message_id               text NOT NULL,
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
    PRIMARY KEY (campaign_id, campaign_message_id, send_channel, date)
);
COMMENT ON TABLE campaign_report IS 'Klaviyo''s campaign values report: one row per campaign, message and channel, on the day that the send began.';
COMMENT ON COLUMN campaign_report.campaign_id IS 'Campaign.';
COMMENT ON COLUMN campaign_report.campaign_message_id IS 'Message within the campaign, as the report names it; empty where it names none. It may equal the campaign''s id.';
COMMENT ON COLUMN campaign_report.send_channel IS 'email, sms, push-notification or whatsapp: the report''s own names; empty where Klaviyo names none.';
COMMENT ON COLUMN campaign_report.date IS 'Day on which the send began (send_time), in the account''s time zone.';
COMMENT ON COLUMN campaign_report.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN campaign_report.delivered IS 'Messages delivered.';
COMMENT ON COLUMN campaign_report.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN campaign_report.opens_unique IS 'People who opened, by message and day.';
COMMENT ON COLUMN campaign_report.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN campaign_report.clicks_unique IS 'People who clicked, by message and day.';
COMMENT ON COLUMN campaign_report.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN campaign_report.conversion_uniques IS 'People who converted, by message and day.';
COMMENT ON COLUMN campaign_report.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN campaign_report.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN campaign_report.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN campaign_report.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN campaign_report.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN campaign_report.unsubscribe_uniques IS 'People who unsubscribed, by message and day.';
COMMENT ON COLUMN campaign_report.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN campaign_report.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN campaign_report.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN campaign_report.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN campaign_report.open_rate IS 'As Klaviyo states it for this message and day: open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.click_rate IS 'As Klaviyo states it for this message and day: click rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.click_to_open_rate IS 'As Klaviyo states it for this message and day: click to open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.conversion_rate IS 'As Klaviyo states it for this message and day: conversion rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.revenue_per_recipient IS 'As Klaviyo states it for this message and day: revenue per recipient.';
COMMENT ON COLUMN campaign_report.average_order_value IS 'As Klaviyo states it for this message and day: average order value.';
COMMENT ON COLUMN campaign_report.bounce_rate IS 'As Klaviyo states it for this message and day: bounce rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.bounced_or_failed_rate IS 'As Klaviyo states it for this message and day: bounced or failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.failed_rate IS 'As Klaviyo states it for this message and day: failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.delivery_rate IS 'As Klaviyo states it for this message and day: delivery rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.unsubscribe_rate IS 'As Klaviyo states it for this message and day: unsubscribe rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.spam_complaint_rate IS 'As Klaviyo states it for this message and day: spam complaint rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report.text_message_roi IS 'Return on text message spend, as Klaviyo states it.';
COMMENT ON COLUMN campaign_report.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN campaign_report.observed_at IS 'When the request that brought these figures was made.';
CREATE INDEX campaign_report_date_idx ON campaign_report (date, campaign_id);

CREATE TABLE campaign_report_history (
    campaign_id                       text NOT NULL,
    campaign_message_id               text NOT NULL,
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
    PRIMARY KEY (campaign_id, campaign_message_id, send_channel, date, valid_from),
    CONSTRAINT campaign_report_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE campaign_report_history IS 'Every figure that the campaign report ever showed for a day; a later answer that differs closes the row.';
COMMENT ON COLUMN campaign_report_history.campaign_id IS 'Campaign.';
COMMENT ON COLUMN campaign_report_history.campaign_message_id IS 'Message within the campaign, as the report names it; empty where it names none. It may equal the campaign''s id.';
COMMENT ON COLUMN campaign_report_history.send_channel IS 'email, sms, push-notification or whatsapp: the report''s own names; empty where Klaviyo names none.';
COMMENT ON COLUMN campaign_report_history.date IS 'Day on which the send began (send_time), in the account''s time zone.';
COMMENT ON COLUMN campaign_report_history.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN campaign_report_history.delivered IS 'Messages delivered.';
COMMENT ON COLUMN campaign_report_history.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN campaign_report_history.opens_unique IS 'People who opened, by message and day.';
COMMENT ON COLUMN campaign_report_history.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN campaign_report_history.clicks_unique IS 'People who clicked, by message and day.';
COMMENT ON COLUMN campaign_report_history.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN campaign_report_history.conversion_uniques IS 'People who converted, by message and day.';
COMMENT ON COLUMN campaign_report_history.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN campaign_report_history.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN campaign_report_history.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN campaign_report_history.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN campaign_report_history.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN campaign_report_history.unsubscribe_uniques IS 'People who unsubscribed, by message and day.';
COMMENT ON COLUMN campaign_report_history.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN campaign_report_history.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN campaign_report_history.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN campaign_report_history.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN campaign_report_history.open_rate IS 'As Klaviyo states it for this message and day: open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.click_rate IS 'As Klaviyo states it for this message and day: click rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.click_to_open_rate IS 'As Klaviyo states it for this message and day: click to open rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.conversion_rate IS 'As Klaviyo states it for this message and day: conversion rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.revenue_per_recipient IS 'As Klaviyo states it for this message and day: revenue per recipient.';
COMMENT ON COLUMN campaign_report_history.average_order_value IS 'As Klaviyo states it for this message and day: average order value.';
COMMENT ON COLUMN campaign_report_history.bounce_rate IS 'As Klaviyo states it for this message and day: bounce rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.bounced_or_failed_rate IS 'As Klaviyo states it for this message and day: bounced or failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.failed_rate IS 'As Klaviyo states it for this message and day: failed rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.delivery_rate IS 'As Klaviyo states it for this message and day: delivery rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.unsubscribe_rate IS 'As Klaviyo states it for this message and day: unsubscribe rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.spam_complaint_rate IS 'As Klaviyo states it for this message and day: spam complaint rate, a fraction of 1.';
COMMENT ON COLUMN campaign_report_history.text_message_roi IS 'Return on text message spend, as Klaviyo states it.';
COMMENT ON COLUMN campaign_report_history.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN campaign_report_history.valid_from IS 'When these figures were first observed.';
COMMENT ON COLUMN campaign_report_history.valid_to IS 'When other figures, or none, were first observed; null for the present ones.';
CREATE UNIQUE INDEX campaign_report_history_open_idx ON campaign_report_history (campaign_id, campaign_message_id, send_channel, date)
    WHERE valid_to IS NULL;

CREATE TABLE form_report (
    form_id                      text NOT NULL,
    date                         date NOT NULL,
    viewed_form                  numeric,
    viewed_form_uniques          numeric,
    viewed_form_step             numeric,
    viewed_form_step_uniques     numeric,
    submits                      numeric,
    submitted_form_step          numeric,
    submitted_form_step_uniques  numeric,
    closed_form                  numeric,
    closed_form_uniques          numeric,
    qualified_form               numeric,
    qualified_form_uniques       numeric,
    submit_rate                  numeric,
    observed_at                  timestamptz NOT NULL,
    PRIMARY KEY (form_id, date)
);
COMMENT ON TABLE form_report IS 'Klaviyo''s form series report: one row per form and day.';
COMMENT ON COLUMN form_report.form_id IS 'Form.';
COMMENT ON COLUMN form_report.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN form_report.viewed_form IS 'Views of the form.';
COMMENT ON COLUMN form_report.viewed_form_uniques IS 'People who viewed the form, that day.';
COMMENT ON COLUMN form_report.viewed_form_step IS 'Views of a step of the form.';
COMMENT ON COLUMN form_report.viewed_form_step_uniques IS 'People who viewed a step, that day.';
COMMENT ON COLUMN form_report.submits IS 'Submits.';
COMMENT ON COLUMN form_report.submitted_form_step IS 'Submits of a step.';
COMMENT ON COLUMN form_report.submitted_form_step_uniques IS 'People who submitted a step, that day.';
COMMENT ON COLUMN form_report.closed_form IS 'Closes of the form.';
COMMENT ON COLUMN form_report.closed_form_uniques IS 'People who closed the form, that day.';
COMMENT ON COLUMN form_report.qualified_form IS 'Times that a visitor qualified for the form.';
COMMENT ON COLUMN form_report.qualified_form_uniques IS 'People who qualified, that day.';
COMMENT ON COLUMN form_report.submit_rate IS 'Submits per view, as Klaviyo states it; a fraction of 1.';
COMMENT ON COLUMN form_report.observed_at IS 'When the request that brought these figures was made.';
CREATE INDEX form_report_date_idx ON form_report (date, form_id);

CREATE TABLE form_report_history (
    form_id                      text NOT NULL,
    date                         date NOT NULL,
    viewed_form                  numeric,
    viewed_form_uniques          numeric,
    viewed_form_step             numeric,
    viewed_form_step_uniques     numeric,
    submits                      numeric,
    submitted_form_step          numeric,
    submitted_form_step_uniques  numeric,
    closed_form                  numeric,
    closed_form_uniques          numeric,
    qualified_form               numeric,
    qualified_form_uniques       numeric,
    submit_rate                  numeric,
    valid_from                   timestamptz NOT NULL,
    valid_to                     timestamptz,
    PRIMARY KEY (form_id, date, valid_from),
    CONSTRAINT form_report_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE form_report_history IS 'Every figure that the form report ever showed for a day; a later answer that differs closes the row.';
COMMENT ON COLUMN form_report_history.form_id IS 'Form.';
COMMENT ON COLUMN form_report_history.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN form_report_history.viewed_form IS 'Views of the form.';
COMMENT ON COLUMN form_report_history.viewed_form_uniques IS 'People who viewed the form, that day.';
COMMENT ON COLUMN form_report_history.viewed_form_step IS 'Views of a step of the form.';
COMMENT ON COLUMN form_report_history.viewed_form_step_uniques IS 'People who viewed a step, that day.';
COMMENT ON COLUMN form_report_history.submits IS 'Submits.';
COMMENT ON COLUMN form_report_history.submitted_form_step IS 'Submits of a step.';
COMMENT ON COLUMN form_report_history.submitted_form_step_uniques IS 'People who submitted a step, that day.';
COMMENT ON COLUMN form_report_history.closed_form IS 'Closes of the form.';
COMMENT ON COLUMN form_report_history.closed_form_uniques IS 'People who closed the form, that day.';
COMMENT ON COLUMN form_report_history.qualified_form IS 'Times that a visitor qualified for the form.';
COMMENT ON COLUMN form_report_history.qualified_form_uniques IS 'People who qualified, that day.';
COMMENT ON COLUMN form_report_history.submit_rate IS 'Submits per view, as Klaviyo states it; a fraction of 1.';
COMMENT ON COLUMN form_report_history.valid_from IS 'When these figures were first observed.';
COMMENT ON COLUMN form_report_history.valid_to IS 'When other figures, or none, were first observed; null for the present ones.';
CREATE UNIQUE INDEX form_report_history_open_idx ON form_report_history (form_id, date)
    WHERE valid_to IS NULL;

CREATE TABLE segment_report (
    segment_id            text NOT NULL,
    date                  date NOT NULL,
    members_added         numeric,
    members_removed       numeric,
    net_members_changed   numeric,
    total_members         numeric,
    observed_at           timestamptz NOT NULL,
    PRIMARY KEY (segment_id, date)
);
COMMENT ON TABLE segment_report IS 'Klaviyo''s segment series report: one row per segment and day.';
COMMENT ON COLUMN segment_report.segment_id IS 'Segment.';
COMMENT ON COLUMN segment_report.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN segment_report.members_added IS 'People who joined the segment that day.';
COMMENT ON COLUMN segment_report.members_removed IS 'People who left it.';
COMMENT ON COLUMN segment_report.net_members_changed IS 'Joined less left.';
COMMENT ON COLUMN segment_report.total_members IS 'Members at the end of the day.';
COMMENT ON COLUMN segment_report.observed_at IS 'When the request that brought these figures was made.';
CREATE INDEX segment_report_date_idx ON segment_report (date, segment_id);

CREATE TABLE segment_report_history (
    segment_id            text NOT NULL,
    date                  date NOT NULL,
    members_added         numeric,
    members_removed       numeric,
    net_members_changed   numeric,
    total_members         numeric,
    valid_from            timestamptz NOT NULL,
    valid_to              timestamptz,
    PRIMARY KEY (segment_id, date, valid_from),
    CONSTRAINT segment_report_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE segment_report_history IS 'Every figure that the segment report ever showed for a day; a later answer that differs closes the row.';
COMMENT ON COLUMN segment_report_history.segment_id IS 'Segment.';
COMMENT ON COLUMN segment_report_history.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN segment_report_history.members_added IS 'People who joined the segment that day.';
COMMENT ON COLUMN segment_report_history.members_removed IS 'People who left it.';
COMMENT ON COLUMN segment_report_history.net_members_changed IS 'Joined less left.';
COMMENT ON COLUMN segment_report_history.total_members IS 'Members at the end of the day.';
COMMENT ON COLUMN segment_report_history.valid_from IS 'When these figures were first observed.';
COMMENT ON COLUMN segment_report_history.valid_to IS 'When other figures, or none, were first observed; null for the present ones.';
CREATE UNIQUE INDEX segment_report_history_open_idx ON segment_report_history (segment_id, date)
    WHERE valid_to IS NULL;

CREATE TABLE campaign_metrics (
    campaign_id                           text NOT NULL,
    date                                  date NOT NULL,
    campaign_name                         text,
    campaign_status                       text,
    channel                               text,
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
    PRIMARY KEY (campaign_id, date)
);
COMMENT ON TABLE campaign_metrics IS 'One row per campaign and day on which its send began: sums over its messages, and rates from those sums.';
COMMENT ON COLUMN campaign_metrics.campaign_id IS 'Campaign.';
COMMENT ON COLUMN campaign_metrics.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN campaign_metrics.campaign_name IS 'The campaign''s latest name.';
COMMENT ON COLUMN campaign_metrics.campaign_status IS 'Its latest status.';
COMMENT ON COLUMN campaign_metrics.channel IS 'Its channel: email, sms or mobile_push.';
COMMENT ON COLUMN campaign_metrics.messages IS 'Messages with figures on that day.';
COMMENT ON COLUMN campaign_metrics.recipients IS 'Messages sent (sum over the day).';
COMMENT ON COLUMN campaign_metrics.delivered IS 'Messages delivered.';
COMMENT ON COLUMN campaign_metrics.opens IS 'Opens, every one counted.';
COMMENT ON COLUMN campaign_metrics.opens_unique IS 'People who opened, by message and day. Sum of the messages'' uniques.';
COMMENT ON COLUMN campaign_metrics.clicks IS 'Clicks, every one counted.';
COMMENT ON COLUMN campaign_metrics.clicks_unique IS 'People who clicked, by message and day. Sum of the messages'' uniques.';
COMMENT ON COLUMN campaign_metrics.conversions IS 'Conversions of the conversion metric.';
COMMENT ON COLUMN campaign_metrics.conversion_uniques IS 'People who converted, by message and day. Sum of the messages'' uniques.';
COMMENT ON COLUMN campaign_metrics.conversion_value IS 'Value of the conversions, in the account''s currency.';
COMMENT ON COLUMN campaign_metrics.bounced IS 'Messages that bounced.';
COMMENT ON COLUMN campaign_metrics.bounced_or_failed IS 'Messages that bounced or failed.';
COMMENT ON COLUMN campaign_metrics.failed IS 'Messages that failed to send.';
COMMENT ON COLUMN campaign_metrics.unsubscribes IS 'Unsubscribes, every one counted.';
COMMENT ON COLUMN campaign_metrics.unsubscribe_uniques IS 'People who unsubscribed, by message and day. Sum of the messages'' uniques.';
COMMENT ON COLUMN campaign_metrics.spam_complaints IS 'Spam complaints.';
COMMENT ON COLUMN campaign_metrics.message_segment_count_sum IS 'Text message segments sent.';
COMMENT ON COLUMN campaign_metrics.text_message_credit_usage_amount IS 'Text message credits used.';
COMMENT ON COLUMN campaign_metrics.text_message_spend IS 'Money spent on text messages.';
COMMENT ON COLUMN campaign_metrics.open_rate IS 'Opens per delivery: opens_unique / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.click_rate IS 'Clicks per delivery: clicks_unique / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.click_to_open_rate IS 'Clicks per open: clicks_unique / opens_unique; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.conversion_rate IS 'Conversions per delivery: conversion_uniques / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.revenue_per_recipient IS 'Revenue per delivery: conversion_value / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.average_order_value IS 'Revenue per conversion: conversion_value / conversions; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.bounce_rate IS 'Bounces per recipient: bounced / recipients; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.delivery_rate IS 'Deliveries per recipient: delivered / recipients; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.unsubscribe_rate IS 'Unsubscribes per delivery: unsubscribe_uniques / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.spam_complaint_rate IS 'Spam complaints per delivery: spam_complaints / delivered; null where the divisor is 0.';
COMMENT ON COLUMN campaign_metrics.conversion_metric_id IS 'The metric that conversions were counted by.';
COMMENT ON COLUMN campaign_metrics.observed_at IS 'When these figures were computed.';
CREATE INDEX campaign_metrics_date_idx ON campaign_metrics (date);

CREATE TABLE form_metrics (
    form_id                               text NOT NULL,
    date                                  date NOT NULL,
    form_name                             text,
    form_status                           text,
    viewed_form                           numeric,
    viewed_form_uniques                   numeric,
    viewed_form_step                      numeric,
    viewed_form_step_uniques              numeric,
    submits                               numeric,
    submitted_form_step                   numeric,
    submitted_form_step_uniques           numeric,
    closed_form                           numeric,
    closed_form_uniques                   numeric,
    qualified_form                        numeric,
    qualified_form_uniques                numeric,
    submit_rate                           numeric GENERATED ALWAYS AS (submits / nullif(viewed_form, 0)) STORED,
    close_rate                            numeric GENERATED ALWAYS AS (closed_form / nullif(viewed_form, 0)) STORED,
    observed_at                           timestamptz NOT NULL,
    PRIMARY KEY (form_id, date)
);
COMMENT ON TABLE form_metrics IS 'One row per form and day: Klaviyo''s counts, and rates from them.';
COMMENT ON COLUMN form_metrics.form_id IS 'Form.';
COMMENT ON COLUMN form_metrics.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN form_metrics.form_name IS 'The form''s latest name.';
COMMENT ON COLUMN form_metrics.form_status IS 'Its latest status.';
COMMENT ON COLUMN form_metrics.viewed_form IS 'Views of the form.';
COMMENT ON COLUMN form_metrics.viewed_form_uniques IS 'People who viewed the form, that day.';
COMMENT ON COLUMN form_metrics.viewed_form_step IS 'Views of a step of the form.';
COMMENT ON COLUMN form_metrics.viewed_form_step_uniques IS 'People who viewed a step, that day.';
COMMENT ON COLUMN form_metrics.submits IS 'Submits.';
COMMENT ON COLUMN form_metrics.submitted_form_step IS 'Submits of a step.';
COMMENT ON COLUMN form_metrics.submitted_form_step_uniques IS 'People who submitted a step, that day.';
COMMENT ON COLUMN form_metrics.closed_form IS 'Closes of the form.';
COMMENT ON COLUMN form_metrics.closed_form_uniques IS 'People who closed the form, that day.';
COMMENT ON COLUMN form_metrics.qualified_form IS 'Times that a visitor qualified for the form.';
COMMENT ON COLUMN form_metrics.qualified_form_uniques IS 'People who qualified, that day.';
COMMENT ON COLUMN form_metrics.submit_rate IS 'Submits per view: submits / viewed_form; null where the divisor is 0.';
COMMENT ON COLUMN form_metrics.close_rate IS 'Closes per view: closed_form / viewed_form; null where the divisor is 0.';
COMMENT ON COLUMN form_metrics.observed_at IS 'When these figures were computed.';
CREATE INDEX form_metrics_date_idx ON form_metrics (date);

CREATE TABLE segment_metrics (
    segment_id                            text NOT NULL,
    date                                  date NOT NULL,
    segment_name                          text,
    is_active                             boolean,
    members_added                         numeric,
    members_removed                       numeric,
    net_members_changed                   numeric,
    total_members                         numeric,
    growth_rate                           numeric GENERATED ALWAYS AS (net_members_changed / nullif((total_members - net_members_changed), 0)) STORED,
    observed_at                           timestamptz NOT NULL,
    PRIMARY KEY (segment_id, date)
);
COMMENT ON TABLE segment_metrics IS 'One row per segment and day: members, joins, leaves, and growth.';
COMMENT ON COLUMN segment_metrics.segment_id IS 'Segment.';
COMMENT ON COLUMN segment_metrics.date IS 'Day, in the account''s time zone.';
COMMENT ON COLUMN segment_metrics.segment_name IS 'The segment''s latest name.';
COMMENT ON COLUMN segment_metrics.is_active IS 'Whether it is active now.';
COMMENT ON COLUMN segment_metrics.members_added IS 'People who joined the segment that day.';
COMMENT ON COLUMN segment_metrics.members_removed IS 'People who left it.';
COMMENT ON COLUMN segment_metrics.net_members_changed IS 'Joined less left.';
COMMENT ON COLUMN segment_metrics.total_members IS 'Members at the end of the day.';
COMMENT ON COLUMN segment_metrics.growth_rate IS 'Net change per member at the day''s begin: net_members_changed / (total_members - net_members_changed); null where the divisor is 0.';
COMMENT ON COLUMN segment_metrics.observed_at IS 'When these figures were computed.';
CREATE INDEX segment_metrics_date_idx ON segment_metrics (date);

-- Restatements: figures that Klaviyo has changed after it had shown others for the same day.
CREATE VIEW flow_report_restatements AS
SELECT
    later.flow_id,
    later.flow_message_id,
    later.send_channel,
    later.date,
    later.valid_from AS restated_at,
    figure.name AS statistic,
    figure.value AS earlier_value,
    later_figure.value AS later_value
FROM flow_report_history AS later
JOIN flow_report_history AS earlier
    ON earlier.flow_id = later.flow_id AND earlier.flow_message_id = later.flow_message_id AND earlier.send_channel = later.send_channel AND earlier.date = later.date
    AND earlier.valid_to = later.valid_from
CROSS JOIN LATERAL (VALUES
    ('recipients', earlier.recipients),
    ('delivered', earlier.delivered),
    ('opens', earlier.opens),
    ('opens_unique', earlier.opens_unique),
    ('clicks', earlier.clicks),
    ('clicks_unique', earlier.clicks_unique),
    ('conversions', earlier.conversions),
    ('conversion_uniques', earlier.conversion_uniques),
    ('conversion_value', earlier.conversion_value),
    ('bounced', earlier.bounced),
    ('bounced_or_failed', earlier.bounced_or_failed),
    ('failed', earlier.failed),
    ('unsubscribes', earlier.unsubscribes),
    ('unsubscribe_uniques', earlier.unsubscribe_uniques),
    ('spam_complaints', earlier.spam_complaints),
    ('message_segment_count_sum', earlier.message_segment_count_sum),
    ('text_message_credit_usage_amount', earlier.text_message_credit_usage_amount),
    ('text_message_spend', earlier.text_message_spend),
    ('open_rate', earlier.open_rate),
    ('click_rate', earlier.click_rate),
    ('click_to_open_rate', earlier.click_to_open_rate),
    ('conversion_rate', earlier.conversion_rate),
    ('revenue_per_recipient', earlier.revenue_per_recipient),
    ('average_order_value', earlier.average_order_value),
    ('bounce_rate', earlier.bounce_rate),
    ('bounced_or_failed_rate', earlier.bounced_or_failed_rate),
    ('failed_rate', earlier.failed_rate),
    ('delivery_rate', earlier.delivery_rate),
    ('unsubscribe_rate', earlier.unsubscribe_rate),
    ('spam_complaint_rate', earlier.spam_complaint_rate),
    ('text_message_roi', earlier.text_message_roi)
) AS figure (name, value)
JOIN LATERAL (VALUES
    ('recipients', later.recipients),
    ('delivered', later.delivered),
    ('opens', later.opens),
    ('opens_unique', later.opens_unique),
    ('clicks', later.clicks),
    ('clicks_unique', later.clicks_unique),
    ('conversions', later.conversions),
    ('conversion_uniques', later.conversion_uniques),
    ('conversion_value', later.conversion_value),
    ('bounced', later.bounced),
    ('bounced_or_failed', later.bounced_or_failed),
    ('failed', later.failed),
    ('unsubscribes', later.unsubscribes),
    ('unsubscribe_uniques', later.unsubscribe_uniques),
    ('spam_complaints', later.spam_complaints),
    ('message_segment_count_sum', later.message_segment_count_sum),
    ('text_message_credit_usage_amount', later.text_message_credit_usage_amount),
    ('text_message_spend', later.text_message_spend),
    ('open_rate', later.open_rate),
    ('click_rate', later.click_rate),
    ('click_to_open_rate', later.click_to_open_rate),
    ('conversion_rate', later.conversion_rate),
    ('revenue_per_recipient', later.revenue_per_recipient),
    ('average_order_value', later.average_order_value),
    ('bounce_rate', later.bounce_rate),
    ('bounced_or_failed_rate', later.bounced_or_failed_rate),
    ('failed_rate', later.failed_rate),
    ('delivery_rate', later.delivery_rate),
    ('unsubscribe_rate', later.unsubscribe_rate),
    ('spam_complaint_rate', later.spam_complaint_rate),
    ('text_message_roi', later.text_message_roi)
) AS later_figure (name, value) ON later_figure.name = figure.name
WHERE later_figure.value IS DISTINCT FROM figure.value;
COMMENT ON VIEW flow_report_restatements IS 'One row for each statistic that a later answer of the report changed: when, from what, to what.';
COMMENT ON COLUMN flow_report_restatements.flow_id IS 'Key of the report row.';
COMMENT ON COLUMN flow_report_restatements.flow_message_id IS 'Key of the report row.';
COMMENT ON COLUMN flow_report_restatements.send_channel IS 'Key of the report row.';
COMMENT ON COLUMN flow_report_restatements.date IS 'Key of the report row.';
COMMENT ON COLUMN flow_report_restatements.restated_at IS 'When the later figure was first observed.';
COMMENT ON COLUMN flow_report_restatements.statistic IS 'Klaviyo''s name of the statistic.';
COMMENT ON COLUMN flow_report_restatements.earlier_value IS 'The figure that was shown until then.';
COMMENT ON COLUMN flow_report_restatements.later_value IS 'The figure that was shown from then on.';

CREATE VIEW campaign_report_restatements AS
SELECT
    later.campaign_id,
    later.campaign_message_id,
    later.send_channel,
    later.date,
    later.valid_from AS restated_at,
    figure.name AS statistic,
    figure.value AS earlier_value,
    later_figure.value AS later_value
FROM campaign_report_history AS later
JOIN campaign_report_history AS earlier
    ON earlier.campaign_id = later.campaign_id AND earlier.campaign_message_id = later.campaign_message_id AND earlier.send_channel = later.send_channel AND earlier.date = later.date
    AND earlier.valid_to = later.valid_from
CROSS JOIN LATERAL (VALUES
    ('recipients', earlier.recipients),
    ('delivered', earlier.delivered),
    ('opens', earlier.opens),
    ('opens_unique', earlier.opens_unique),
    ('clicks', earlier.clicks),
    ('clicks_unique', earlier.clicks_unique),
    ('conversions', earlier.conversions),
    ('conversion_uniques', earlier.conversion_uniques),
    ('conversion_value', earlier.conversion_value),
    ('bounced', earlier.bounced),
    ('bounced_or_failed', earlier.bounced_or_failed),
    ('failed', earlier.failed),
    ('unsubscribes', earlier.unsubscribes),
    ('unsubscribe_uniques', earlier.unsubscribe_uniques),
    ('spam_complaints', earlier.spam_complaints),
    ('message_segment_count_sum', earlier.message_segment_count_sum),
    ('text_message_credit_usage_amount', earlier.text_message_credit_usage_amount),
    ('text_message_spend', earlier.text_message_spend),
    ('open_rate', earlier.open_rate),
    ('click_rate', earlier.click_rate),
    ('click_to_open_rate', earlier.click_to_open_rate),
    ('conversion_rate', earlier.conversion_rate),
    ('revenue_per_recipient', earlier.revenue_per_recipient),
    ('average_order_value', earlier.average_order_value),
    ('bounce_rate', earlier.bounce_rate),
    ('bounced_or_failed_rate', earlier.bounced_or_failed_rate),
    ('failed_rate', earlier.failed_rate),
    ('delivery_rate', earlier.delivery_rate),
    ('unsubscribe_rate', earlier.unsubscribe_rate),
    ('spam_complaint_rate', earlier.spam_complaint_rate),
    ('text_message_roi', earlier.text_message_roi)
) AS figure (name, value)
JOIN LATERAL (VALUES
    ('recipients', later.recipients),
    ('delivered', later.delivered),
    ('opens', later.opens),
    ('opens_unique', later.opens_unique),
    ('clicks', later.clicks),
    ('clicks_unique', later.clicks_unique),
    ('conversions', later.conversions),
    ('conversion_uniques', later.conversion_uniques),
    ('conversion_value', later.conversion_value),
    ('bounced', later.bounced),
    ('bounced_or_failed', later.bounced_or_failed),
    ('failed', later.failed),
    ('unsubscribes', later.unsubscribes),
    ('unsubscribe_uniques', later.unsubscribe_uniques),
    ('spam_complaints', later.spam_complaints),
    ('message_segment_count_sum', later.message_segment_count_sum),
    ('text_message_credit_usage_amount', later.text_message_credit_usage_amount),
    ('text_message_spend', later.text_message_spend),
    ('open_rate', later.open_rate),
    ('click_rate', later.click_rate),
    ('click_to_open_rate', later.click_to_open_rate),
    ('conversion_rate', later.conversion_rate),
    ('revenue_per_recipient', later.revenue_per_recipient),
    ('average_order_value', later.average_order_value),
    ('bounce_rate', later.bounce_rate),
    ('bounced_or_failed_rate', later.bounced_or_failed_rate),
    ('failed_rate', later.failed_rate),
    ('delivery_rate', later.delivery_rate),
    ('unsubscribe_rate', later.unsubscribe_rate),
    ('spam_complaint_rate', later.spam_complaint_rate),
    ('text_message_roi', later.text_message_roi)
) AS later_figure (name, value) ON later_figure.name = figure.name
WHERE later_figure.value IS DISTINCT FROM figure.value;
COMMENT ON VIEW campaign_report_restatements IS 'One row for each statistic that a later answer of the report changed: when, from what, to what.';
COMMENT ON COLUMN campaign_report_restatements.campaign_id IS 'Key of the report row.';
COMMENT ON COLUMN campaign_report_restatements.campaign_message_id IS 'Key of the report row.';
COMMENT ON COLUMN campaign_report_restatements.send_channel IS 'Key of the report row.';
COMMENT ON COLUMN campaign_report_restatements.date IS 'Key of the report row.';
COMMENT ON COLUMN campaign_report_restatements.restated_at IS 'When the later figure was first observed.';
COMMENT ON COLUMN campaign_report_restatements.statistic IS 'Klaviyo''s name of the statistic.';
COMMENT ON COLUMN campaign_report_restatements.earlier_value IS 'The figure that was shown until then.';
COMMENT ON COLUMN campaign_report_restatements.later_value IS 'The figure that was shown from then on.';

CREATE VIEW form_report_restatements AS
SELECT
    later.form_id,
    later.date,
    later.valid_from AS restated_at,
    figure.name AS statistic,
    figure.value AS earlier_value,
    later_figure.value AS later_value
FROM form_report_history AS later
JOIN form_report_history AS earlier
    ON earlier.form_id = later.form_id AND earlier.date = later.date
    AND earlier.valid_to = later.valid_from
CROSS JOIN LATERAL (VALUES
    ('viewed_form', earlier.viewed_form),
    ('viewed_form_uniques', earlier.viewed_form_uniques),
    ('viewed_form_step', earlier.viewed_form_step),
    ('viewed_form_step_uniques', earlier.viewed_form_step_uniques),
    ('submits', earlier.submits),
    ('submitted_form_step', earlier.submitted_form_step),
    ('submitted_form_step_uniques', earlier.submitted_form_step_uniques),
    ('closed_form', earlier.closed_form),
    ('closed_form_uniques', earlier.closed_form_uniques),
    ('qualified_form', earlier.qualified_form),
    ('qualified_form_uniques', earlier.qualified_form_uniques),
    ('submit_rate', earlier.submit_rate)
) AS figure (name, value)
JOIN LATERAL (VALUES
    ('viewed_form', later.viewed_form),
    ('viewed_form_uniques', later.viewed_form_uniques),
    ('viewed_form_step', later.viewed_form_step),
    ('viewed_form_step_uniques', later.viewed_form_step_uniques),
    ('submits', later.submits),
    ('submitted_form_step', later.submitted_form_step),
    ('submitted_form_step_uniques', later.submitted_form_step_uniques),
    ('closed_form', later.closed_form),
    ('closed_form_uniques', later.closed_form_uniques),
    ('qualified_form', later.qualified_form),
    ('qualified_form_uniques', later.qualified_form_uniques),
    ('submit_rate', later.submit_rate)
) AS later_figure (name, value) ON later_figure.name = figure.name
WHERE later_figure.value IS DISTINCT FROM figure.value;
COMMENT ON VIEW form_report_restatements IS 'One row for each statistic that a later answer of the report changed: when, from what, to what.';
COMMENT ON COLUMN form_report_restatements.form_id IS 'Key of the report row.';
COMMENT ON COLUMN form_report_restatements.date IS 'Key of the report row.';
COMMENT ON COLUMN form_report_restatements.restated_at IS 'When the later figure was first observed.';
COMMENT ON COLUMN form_report_restatements.statistic IS 'Klaviyo''s name of the statistic.';
COMMENT ON COLUMN form_report_restatements.earlier_value IS 'The figure that was shown until then.';
COMMENT ON COLUMN form_report_restatements.later_value IS 'The figure that was shown from then on.';

CREATE VIEW segment_report_restatements AS
SELECT
    later.segment_id,
    later.date,
    later.valid_from AS restated_at,
    figure.name AS statistic,
    figure.value AS earlier_value,
    later_figure.value AS later_value
FROM segment_report_history AS later
JOIN segment_report_history AS earlier
    ON earlier.segment_id = later.segment_id AND earlier.date = later.date
    AND earlier.valid_to = later.valid_from
CROSS JOIN LATERAL (VALUES
    ('members_added', earlier.members_added),
    ('members_removed', earlier.members_removed),
    ('net_members_changed', earlier.net_members_changed),
    ('total_members', earlier.total_members)
) AS figure (name, value)
JOIN LATERAL (VALUES
    ('members_added', later.members_added),
    ('members_removed', later.members_removed),
    ('net_members_changed', later.net_members_changed),
    ('total_members', later.total_members)
) AS later_figure (name, value) ON later_figure.name = figure.name
WHERE later_figure.value IS DISTINCT FROM figure.value;
COMMENT ON VIEW segment_report_restatements IS 'One row for each statistic that a later answer of the report changed: when, from what, to what.';
COMMENT ON COLUMN segment_report_restatements.segment_id IS 'Key of the report row.';
COMMENT ON COLUMN segment_report_restatements.date IS 'Key of the report row.';
COMMENT ON COLUMN segment_report_restatements.restated_at IS 'When the later figure was first observed.';
COMMENT ON COLUMN segment_report_restatements.statistic IS 'Klaviyo''s name of the statistic.';
COMMENT ON COLUMN segment_report_restatements.earlier_value IS 'The figure that was shown until then.';
COMMENT ON COLUMN segment_report_restatements.later_value IS 'The figure that was shown from then on.';
