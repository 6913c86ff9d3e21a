-- What hangs on campaigns and flows, and tags: rows of their own, to be joined by id.
--
-- The foreign keys are real: a child is written in the transaction that writes its parent, after it, so no order of
-- arrival can violate them. Only `object_tags.object_id` has none: it names a row of one of three tables.

CREATE TABLE campaign_messages (
    id            text PRIMARY KEY,
    campaign_id   text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
    channel       text,
    label         text,
    subject       text,
    preview_text  text,
    from_email    text,
    from_label    text,
    send_times    jsonb,
    created_at    timestamptz,
    updated_at    timestamptz,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    observed_at   timestamptz NOT NULL
);
COMMENT ON TABLE campaign_messages IS 'The latest state of every message of every campaign, one row each; deleted ones keep their row.';
COMMENT ON COLUMN campaign_messages.id IS 'Klaviyo''s id of the message; it may equal the campaign''s.';
COMMENT ON COLUMN campaign_messages.campaign_id IS 'The campaign that it belongs to.';
COMMENT ON COLUMN campaign_messages.channel IS 'email, sms or mobile_push, as Klaviyo states it.';
COMMENT ON COLUMN campaign_messages.label IS 'Name of the message within the campaign; emails alone have one.';
COMMENT ON COLUMN campaign_messages.subject IS 'Subject line of an email.';
COMMENT ON COLUMN campaign_messages.preview_text IS 'Preview text of an email.';
COMMENT ON COLUMN campaign_messages.from_email IS 'Address that an email is sent from.';
COMMENT ON COLUMN campaign_messages.from_label IS 'Name that an email is sent from.';
COMMENT ON COLUMN campaign_messages.send_times IS 'When it is or was sent: a list of objects with datetime and is_local.';
COMMENT ON COLUMN campaign_messages.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN campaign_messages.updated_at IS 'When Klaviyo says it was last changed.';
COMMENT ON COLUMN campaign_messages.deleted_at IS 'When its campaign was found to name it no more, or to be gone; null while it exists.';
COMMENT ON COLUMN campaign_messages.raw IS 'The whole object: id, type and attributes. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN campaign_messages.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX campaign_messages_campaign_id_idx ON campaign_messages (campaign_id);

CREATE TABLE flow_actions (
    id           text PRIMARY KEY,
    flow_id      text NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
    action_type  text,
    status       text,
    definition   jsonb,
    created_at   timestamptz,
    updated_at   timestamptz,
    deleted_at   timestamptz,
    raw          jsonb NOT NULL,
    observed_at  timestamptz NOT NULL
);
COMMENT ON TABLE flow_actions IS 'The latest state of every action of every flow (messages, delays, splits, …), one row each; deleted ones keep their row.';
COMMENT ON COLUMN flow_actions.id IS 'Klaviyo''s id of the action.';
COMMENT ON COLUMN flow_actions.flow_id IS 'The flow that it belongs to.';
COMMENT ON COLUMN flow_actions.action_type IS 'What it does, such as send-email, time-delay or ab-test; null where Klaviyo shows no definition.';
COMMENT ON COLUMN flow_actions.status IS 'draft, manual, live or disabled; null where the kind of action has none.';
COMMENT ON COLUMN flow_actions.definition IS 'Its settings, its messages and the ids of the actions that follow.';
COMMENT ON COLUMN flow_actions.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN flow_actions.updated_at IS 'When Klaviyo says it was last changed.';
COMMENT ON COLUMN flow_actions.deleted_at IS 'When its flow was found to name it no more, or to be gone; null while it exists.';
COMMENT ON COLUMN flow_actions.raw IS 'The whole object: id, type and attributes. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN flow_actions.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX flow_actions_flow_id_idx ON flow_actions (flow_id);
CREATE INDEX flow_actions_action_type_idx ON flow_actions (action_type);

CREATE TABLE flow_messages (
    id            text PRIMARY KEY,
    action_id     text NOT NULL REFERENCES flow_actions (id) ON DELETE CASCADE,
    flow_id       text NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
    channel       text,
    name          text,
    subject       text,
    preview_text  text,
    from_email    text,
    from_label    text,
    template_id   text,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    observed_at   timestamptz NOT NULL
);
COMMENT ON TABLE flow_messages IS 'The latest state of every message that a flow''s actions send, one row each, the variations of an experiment among them; deleted ones keep their row. Read from the definitions of the actions: an action without one tells no messages.';
COMMENT ON COLUMN flow_messages.id IS 'Klaviyo''s id of the message: the flow_message_id of flow_report.';
COMMENT ON COLUMN flow_messages.action_id IS 'The action that sends it; for a variation, that of the experiment.';
COMMENT ON COLUMN flow_messages.flow_id IS 'The flow of the action.';
COMMENT ON COLUMN flow_messages.channel IS 'email, sms, mobile_push, whatsapp, webhook or internal_alert, from the type of the action that sends it.';
COMMENT ON COLUMN flow_messages.name IS 'Name of the message.';
COMMENT ON COLUMN flow_messages.subject IS 'Subject line of an email or an internal alert.';
COMMENT ON COLUMN flow_messages.preview_text IS 'Preview text of an email.';
COMMENT ON COLUMN flow_messages.from_email IS 'Address that it is sent from.';
COMMENT ON COLUMN flow_messages.from_label IS 'Name that it is sent from.';
COMMENT ON COLUMN flow_messages.template_id IS 'Klaviyo''s id of its template.';
COMMENT ON COLUMN flow_messages.deleted_at IS 'When its action was found to have it no more, or to be gone; null while it exists.';
COMMENT ON COLUMN flow_messages.raw IS 'The whole message as the definition shows it: id, type and attributes. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN flow_messages.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX flow_messages_action_id_idx ON flow_messages (action_id);
CREATE INDEX flow_messages_flow_id_idx ON flow_messages (flow_id);

CREATE TABLE tags (
    id           text PRIMARY KEY,
    name         text,
    deleted_at   timestamptz,
    raw          jsonb NOT NULL,
    observed_at  timestamptz NOT NULL
);
COMMENT ON TABLE tags IS 'The latest state of every tag, one row each; deleted ones keep their row.';
COMMENT ON COLUMN tags.id IS 'Klaviyo''s id of the tag.';
COMMENT ON COLUMN tags.name IS 'Name; null for a tag that an object named and no listing of the tags has shown yet.';
COMMENT ON COLUMN tags.deleted_at IS 'When Klaviyo, asked for it by id, was found to have it no more; null while it exists.';
COMMENT ON COLUMN tags.raw IS 'The whole object: id, type and attributes. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN tags.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX tags_name_idx ON tags USING hash (name);

CREATE TABLE object_tags (
    entity       text NOT NULL CHECK (entity IN ('flows', 'campaigns', 'segments')),
    object_id    text NOT NULL,
    tag_id       text NOT NULL REFERENCES tags (id) ON DELETE CASCADE,
    deleted_at   timestamptz,
    observed_at  timestamptz NOT NULL,
    PRIMARY KEY (entity, object_id, tag_id)
);
COMMENT ON TABLE object_tags IS 'Which object carries which tag, one row per pair; a pair that ended keeps its row.';
COMMENT ON COLUMN object_tags.entity IS 'The object''s table: flows, campaigns or segments.';
COMMENT ON COLUMN object_tags.object_id IS 'The object''s id in that table.';
COMMENT ON COLUMN object_tags.tag_id IS 'The tag.';
COMMENT ON COLUMN object_tags.deleted_at IS 'When the object was found to carry the tag no more; null while it does.';
COMMENT ON COLUMN object_tags.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX object_tags_tag_id_idx ON object_tags (tag_id);

COMMENT ON TABLE census_runs IS 'Every full listing of an entity, and of the tags: what it found that the windows had not.';
COMMENT ON COLUMN census_runs.entity IS 'flows, campaigns, forms, segments or tags.';
COMMENT ON COLUMN census_runs.rows_deleted IS 'Objects that Klaviyo, asked for them by id, has no more.';
