-- Reports with finer groupings: by variation, by list or segment, by version of a form. They have the same statistics
-- as the reports without the finer groupings.

CREATE FUNCTION pg_temp.columns_of(report text, names text[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(ARRAY[attname::text, 'text', col_description(attrelid, attnum)] ORDER BY array_position(names, attname::text))
    FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident(report)) AND attname = ANY (names);
$$;

DO $$
DECLARE
    variation CONSTANT text[] := ARRAY[
        ['variation', 'text', 'The variation of the A/B test, as the report names it; empty if the report names none.'],
        ['variation_name', 'text', 'Name of the variation at the time of the request; empty if the report names none.']
    ];
    audience CONSTANT text[] := ARRAY[
        ['group_id', 'text', 'The list or segment that the message was sent to, as the report names it; empty if the report names none.'],
        ['group_name', 'text', 'Name of the list or segment at the time of the request; empty if the report names none.']
    ];
    campaign_key CONSTANT text[] := pg_temp.columns_of('campaign_report', ARRAY['campaign_id', 'campaign_message_id', 'send_channel']);
    metric CONSTANT text[] := pg_temp.columns_of('flow_report', ARRAY['conversion_metric_id']);
    of_messages CONSTANT text[] := statistics_of('flow_report');
    send_day CONSTANT text := 'Day on which the send began (send_time), in the account''s time zone.';
BEGIN
    CALL create_report('flow_report_by_variation',
        'Klaviyo''s flow series report by variation: one row per flow, message, channel, variation and day. Off unless KLAVIYO_ASSETS names it.',
        pg_temp.columns_of('flow_report', ARRAY['flow_id', 'flow_message_id', 'send_channel']) || variation,
        'Day of the send, in the account''s time zone.', of_messages, metric);
    CALL create_report('campaign_report_by_variation',
        'Klaviyo''s campaign values report by variation: one row per campaign, message, channel and variation, on the day that the send began. The row of a test''s winner includes the messages that were sent after the test. Off unless KLAVIYO_ASSETS names it.',
        campaign_key || variation, send_day, of_messages, metric);
    CALL create_report('campaign_report_by_audience',
        'Klaviyo''s campaign values report by list or segment: one row per campaign, message, channel and list or segment, on the day that the send began. A recipient may be in several lists and segments, so the sum of these rows can exceed campaign_report. Off unless KLAVIYO_ASSETS names it.',
        campaign_key || audience, send_day, of_messages, metric);
    CALL create_report('form_report_by_version',
        'Klaviyo''s form series report by version: one row per form, version and day. Off unless KLAVIYO_ASSETS names it.',
        pg_temp.columns_of('form_report', ARRAY['form_id']) || ARRAY[
            ['form_version_id', 'text', 'Id of the version in form_versions; empty if the report names none.']
        ], 'Day, in the account''s time zone.', statistics_of('form_report'));

    CALL create_undated('campaign_report_by_variation_undated',
        'Rows of campaign_report_by_variation whose day is not known, as in campaign_report_undated.',
        campaign_key || variation, of_messages, metric);
    CALL create_undated('campaign_report_by_audience_undated',
        'Rows of campaign_report_by_audience whose day is not known, as in campaign_report_undated.',
        campaign_key || audience, of_messages, metric);
END
$$;
DROP FUNCTION pg_temp.columns_of(text, text[]);

UPDATE assets SET is_on = false WHERE entity LIKE '%\_by\_%';
