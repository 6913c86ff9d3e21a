-- Conversions by the day of the order. Reports count a conversion on the day of the send.

CALL create_table('conversions_daily', 'Conversions by the day of the order, and by the flow, campaign, message and channel that Klaviyo attributes them to: one row for each combination.', ARRAY[
    ['conversion_metric_id', 'text', 'The conversion metric whose events are counted.'],
    ['date', 'date', 'Day of the order, in the account''s time zone.'],
    ['flow_id', 'text', 'Id of the attributed flow; empty if there is none.'],
    ['campaign_id', 'text', 'Id of the campaign of the attributed message; empty if there is none, or if the campaign is not known.'],
    ['message_id', 'text', 'Id of the attributed message; empty if there is none.'],
    ['send_channel', 'text', 'email, sms, mobile_push or whatsapp, as in campaigns.channel; empty if there is none.'],
    ['conversions', 'numeric', 'Events of the conversion metric.'],
    ['conversion_uniques', 'numeric', 'People with such an event on that day, by message: do not add them up.'],
    ['conversion_value', 'numeric', 'Value of the events, in the account''s currency; NULL if Klaviyo returns none.'],
    ['observed_at', 'timestamptz NOT NULL', 'When the request that returned this row was sent.']
], 'PRIMARY KEY (conversion_metric_id, date, flow_id, campaign_id, message_id, send_channel)');
CREATE INDEX conversions_daily_date_idx ON conversions_daily (date, flow_id);
CALL keep_history('conversions_daily', 'Every state of every row of conversions_daily. A later answer with other values ends a state.');
CALL create_restatements('conversions_daily', 'conversion_metric_id, date, flow_id, campaign_id, message_id, send_channel');
CALL register_asset('conversions_daily', false);
