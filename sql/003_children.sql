-- Objects that belong to campaigns and flows, and tags. Each kind has a table, which is joined by id.
--
-- The foreign keys are enforced: a child is written after its parent, in the same transaction. Only
-- `object_tags.object_id` has no foreign key, because it refers to a row of one of three tables.

CALL create_objects('campaign_messages', 'The latest state of every message of every campaign, one row each. A deleted message keeps its row.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the message; it may equal the campaign''s.'],
    ['campaign_id', 'text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE', 'Id of the campaign that it belongs to.'],
    ['channel', 'text', 'Channel of its only variation: email, sms, mobile_push or whatsapp; NULL if it has several.'],
    ['label', 'text', 'The same as name.'],
    ['subject', 'text', 'Subject line of its only variation, if that is an email; NULL if it has several.'],
    ['preview_text', 'text', 'Preview text of its only variation, if that is an email; NULL if it has several.'],
    ['from_email', 'text', 'Address that its only variation is sent from, if that is an email; NULL if it has several.'],
    ['from_label', 'text', 'Name that its only variation is sent from, if that is an email; NULL if it has several.'],
    ['send_times', 'jsonb', 'When it is or was sent: times by id of the variation; at revision 2026-07-15 a list of objects with datetime and is_local.'],
    ['created_at', 'timestamptz', 'When it was created, according to Klaviyo.'],
    ['updated_at', 'timestamptz', 'When it was last changed, according to Klaviyo.'],
    ['deleted_at', 'timestamptz', 'When it was first found missing from its campaign, or its campaign was found deleted; NULL while it exists.']
]);
CREATE INDEX ON campaign_messages (campaign_id);

CALL create_objects('flow_actions', 'The latest state of every action of every flow (messages, delays, splits, …), one row each. A deleted action keeps its row.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the action.'],
    ['flow_id', 'text NOT NULL REFERENCES flows (id) ON DELETE CASCADE', 'Id of the flow that it belongs to.'],
    ['action_type', 'text', 'What it does, such as send-email, time-delay or ab-test; NULL if Klaviyo sends no definition.'],
    ['status', 'text', 'draft, manual, live or disabled; NULL if this kind of action has none.'],
    ['definition', 'jsonb', 'Its settings, its messages and the ids of the next actions.'],
    ['created_at', 'timestamptz', 'When it was created, according to Klaviyo.'],
    ['updated_at', 'timestamptz', 'When it was last changed, according to Klaviyo.'],
    ['deleted_at', 'timestamptz', 'When it was first found missing from its flow, or its flow was found deleted; NULL while it exists.']
]);
CREATE INDEX ON flow_actions (flow_id);
CREATE INDEX ON flow_actions (action_type);

CALL create_objects('flow_messages', 'The latest state of every message that a flow''s actions send, including the variations of experiments, one row each. A deleted message keeps its row. Messages are read from the definitions of the actions, so an action without a definition has no messages here.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the message: the flow_message_id of flow_report.'],
    ['action_id', 'text NOT NULL REFERENCES flow_actions (id) ON DELETE CASCADE', 'Id of the action that sends it. For a variation, this is the experiment''s action.'],
    ['flow_id', 'text NOT NULL REFERENCES flows (id) ON DELETE CASCADE', 'Id of the flow of the action.'],
    ['channel', 'text', 'email, sms, mobile_push, whatsapp, webhook or internal_alert, from the type of the action that sends it.'],
    ['name', 'text', 'Name of the message.'],
    ['subject', 'text', 'Subject line of an email or an internal alert.'],
    ['preview_text', 'text', 'Preview text of an email.'],
    ['from_email', 'text', 'Address that it is sent from.'],
    ['from_label', 'text', 'Name that it is sent from.'],
    ['template_id', 'text', 'Klaviyo''s id of its template.'],
    ['deleted_at', 'timestamptz', 'When it was first found missing from its action, or its action was found deleted; NULL while it exists.']
]);
CREATE INDEX ON flow_messages (action_id);
CREATE INDEX ON flow_messages (flow_id);

CALL create_objects('tags', 'The latest state of every tag, one row each. A deleted tag keeps its row.', ARRAY[
    ['id', 'text', 'Klaviyo''s id of the tag.'],
    ['name', 'text', 'Name; NULL for a tag that is known only from a tagged object, until the next listing of tags.'],
    ['deleted_at', 'timestamptz', 'When Klaviyo first answered 404 for its id; NULL while it exists.']
]);
CREATE INDEX ON tags USING hash (name);

CALL create_table('object_tags', 'Which object has which tag, one row per pair. A pair that no longer exists keeps its row.', ARRAY[
    ['entity', 'text NOT NULL CHECK (entity IN (''flows'', ''campaigns'', ''segments''))', 'The object''s table: flows, campaigns or segments.'],
    ['object_id', 'text', 'The object''s id in that table.'],
    ['tag_id', 'text REFERENCES tags (id) ON DELETE CASCADE', 'Id of the tag.'],
    ['deleted_at', 'timestamptz', 'When the object was first found without the tag; NULL while the object has the tag.'],
    ['observed_at', 'timestamptz NOT NULL', 'When this state was observed: the database''s clock, read before the request was sent.']
], 'PRIMARY KEY (entity, object_id, tag_id)');
CREATE INDEX ON object_tags (tag_id);
