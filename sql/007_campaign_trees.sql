-- Campaigns since revision 2026-10-15: a campaign has audiences and messages, and a message has variations.
--
-- Revision 2026-07-15 fills the same tables, except the columns that it does not have. `revision` is the revision at
-- which a row was read.

-- All existing rows were read at revision 2026-07-15, and get it as the default of the new column. Then the default is
-- dropped, so that no new row gets it.
CREATE PROCEDURE add_revision(name text) LANGUAGE plpgsql AS $$
DECLARE
    relation text;
BEGIN
    CALL add_derived_column(name, 'revision', 'text DEFAULT ''2026-07-15''',
        'Revision of the API at which this state was read.');
    FOREACH relation IN ARRAY ARRAY[name, name || '_superseded'] LOOP
        IF to_regclass(quote_ident(relation)) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I ALTER revision DROP DEFAULT', relation);
        END IF;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE add_revision IS 'Adds the column revision to a table and its earlier states. Existing rows get 2026-07-15.';

CALL add_derived_column('campaigns', 'channels', 'text[]', 'The channels of its variations, in alphabetical order: email, mobile_push, sms, whatsapp. At revision 2026-07-15, the channels of its messages.');
CALL add_column('campaigns', 'builder', 'text', 'definition.builder', 'canvas or wizard, as Klaviyo states it; NULL at revision 2026-07-15.');
CALL add_column('campaigns', 'description', 'text', 'definition.description', 'Description; NULL at revision 2026-07-15.');
CALL add_column('campaigns', 'color', 'text', 'definition.color', 'Color in the calendar, hexadecimal without #; NULL at revision 2026-07-15.');
CALL add_column('campaigns', 'send_settings', 'jsonb', 'definition.send_settings', 'Time zone, strategy and exit condition of the send; NULL at revision 2026-07-15.');
CALL add_revision('campaigns');
CREATE INDEX ON campaigns USING gin (channels);

CREATE PROCEDURE create_part(name text, comment text, columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_objects(name, comment, columns || ARRAY[
        ['created_at', 'timestamptz', 'When it was created, according to Klaviyo.'],
        ['updated_at', 'timestamptz', 'When it was last changed, according to Klaviyo.'],
        ['deleted_at', 'timestamptz', 'When it was first found missing from its parent, or its parent was found deleted; NULL while it exists.'],
        ['revision', 'text', 'Revision of the API at which this state was read.']
    ]);
    CALL keep_part_history(name);
END
$$;
COMMENT ON PROCEDURE create_part IS 'Creates a table of the parts of campaigns, such as audiences, and the relations with their earlier states. Adds the times, revision, raw and observed_at to the columns.';

CREATE PROCEDURE keep_part_history(name text) LANGUAGE plpgsql AS $$
BEGIN
    CALL keep_history(name, format('Every distinct state of every row of %s that a sync observed, including deletions and restorations.', name));
    CALL create_as_of(name);
END
$$;
COMMENT ON PROCEDURE keep_part_history IS 'Creates the table of earlier states, the history view and the as-of function for a table of the parts of campaigns.';

CALL create_part('campaign_audiences', 'The latest state of every audience of every campaign, one row each. A deleted audience keeps its row.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the audience; the campaign''s id if it was read only at revision 2026-07-15, which has no id for it.'],
    ['campaign_id', 'text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE', 'Id of the campaign that it belongs to.'],
    ['name', 'text', 'Name.'],
    ['included', 'text[]', 'Ids of the lists and segments that are included.'],
    ['excluded', 'text[]', 'Ids of the lists and segments that are left out.'],
    ['priority', 'integer', 'Its place among the audiences of the campaign.']
]);
CREATE INDEX ON campaign_audiences (campaign_id);

CALL add_column('campaign_messages', 'name', 'text', 'definition.label', 'Name of the message within the campaign.');
CALL add_derived_column('campaign_messages', 'audience_id', 'text', 'Id of the audience that it is sent to; NULL at revision 2026-07-15.');
CALL add_derived_column('campaign_messages', 'status', 'text', 'draft, scheduled, sending, sent or cancelled. At revision 2026-07-15, the campaign''s status if it is one of these.');
CALL add_derived_column('campaign_messages', 'send_time', 'timestamptz', 'When it is or was sent: the earliest time if it has several. At revision 2026-07-15, the campaign''s send time.');
CALL add_derived_column('campaign_messages', 'send_strategy', 'text', 'How its send is timed, such as static, throttled or content_variation; NULL at revision 2026-07-15.');
CALL add_derived_column('campaign_messages', 'ab_test', 'jsonb', 'winner_metric, winner_percentage and winner_wait_hours of an A/B test; NULL without one, and at revision 2026-07-15.');
CALL add_revision('campaign_messages');
CALL keep_part_history('campaign_messages');
ALTER TABLE campaign_messages ADD FOREIGN KEY (audience_id) REFERENCES campaign_audiences (id) ON DELETE SET NULL ON UPDATE CASCADE;
CREATE INDEX ON campaign_messages (audience_id);
CREATE INDEX ON campaign_messages (send_time);

CALL create_part('campaign_variations', 'The latest state of every variation of every campaign message: its content for one channel, or one side of an A/B test. A deleted variation keeps its row.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the variation; the message''s id if it was read only at revision 2026-07-15, which has no id for it.'],
    ['message_id', 'text NOT NULL REFERENCES campaign_messages (id) ON DELETE CASCADE', 'Id of the message that it belongs to.'],
    ['campaign_id', 'text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE', 'Id of the campaign of the message.'],
    ['name', 'text', 'Name.'],
    ['channel', 'text', 'email, sms, mobile_push or whatsapp.'],
    ['subject', 'text', 'Subject line of an email.'],
    ['preview_text', 'text', 'Preview text of an email.'],
    ['from_email', 'text', 'Address that an email is sent from.'],
    ['from_label', 'text', 'Name that an email is sent from.'],
    ['body', 'text', 'Text of an SMS or a push notification. A WhatsApp message has none.'],
    ['template_id', 'text', 'Klaviyo''s id of its template.']
]);
CREATE INDEX ON campaign_variations (message_id);
CREATE INDEX ON campaign_variations (campaign_id);

-- A report may have the campaign's id in place of the message's. If the campaign, or the channel of the row, has only
-- one message, the row belongs to that message.
CREATE VIEW campaign_report_messages AS
SELECT
    report.campaign_id,
    report.campaign_message_id,
    report.send_channel,
    report.date,
    coalesce(named.id, single.id) AS message_id,
    CASE
        WHEN named.id IS NOT NULL THEN 'message id'
        WHEN single.id IS NOT NULL THEN 'only message'
        ELSE 'unknown'
    END AS matched_by,
    report.conversion_metric_id
FROM campaign_report AS report
LEFT JOIN campaign_messages AS named
    ON named.campaign_id = report.campaign_id AND named.id = report.campaign_message_id
LEFT JOIN LATERAL (
    -- All messages of a deleted campaign are marked deleted, but they were sent.
    SELECT
        CASE
            WHEN count(*) = 1 THEN min(message.id)
            WHEN count(*) FILTER (WHERE message.is_of_channel) = 1 THEN min(message.id) FILTER (WHERE message.is_of_channel)
        END AS id
    FROM (
        SELECT
            one.id,
            EXISTS (
                SELECT FROM campaign_variations AS variation
                WHERE variation.message_id = one.id
                    AND variation.channel = CASE report.send_channel WHEN 'push-notification' THEN 'mobile_push' ELSE report.send_channel END
            ) AS is_of_channel
        FROM campaign_messages AS one
        JOIN campaigns AS campaign ON campaign.id = one.campaign_id
        WHERE one.campaign_id = report.campaign_id AND (one.deleted_at IS NULL OR campaign.deleted_at IS NOT NULL)
    ) AS message
) AS single ON named.id IS NULL;
CALL comment_on_view('campaign_report_messages', 'The message of each row of campaign_report, whether the report has the message''s id or the campaign''s.', ARRAY[
    ['campaign_id', 'As in campaign_report.'],
    ['campaign_message_id', 'As in campaign_report: the message''s id, the campaign''s, or empty.'],
    ['send_channel', 'As in campaign_report.'],
    ['date', 'As in campaign_report.'],
    ['message_id', 'Id in campaign_messages; NULL if the row cannot be attributed to one message.'],
    ['matched_by', 'message id (the report names the message), only message (the campaign, or its channel, has no other), or unknown.'],
    ['conversion_metric_id', 'As in campaign_report.']
]);
