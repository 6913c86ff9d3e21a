-- The entity tables: the latest state of every object, and every state that was ever seen.
--
-- Tables are created in the account's schema: the runner sets the search path, so nothing here names a schema.
-- `observed_at` orders all writes: a row is replaced only by a later observation of a different content.
-- Names are indexed by hash: a name may be longer than a btree entry can hold.

CREATE TABLE flows (
    id            text PRIMARY KEY,
    name          text,
    status        text,
    archived      boolean,
    trigger_type  text,
    created_at    timestamptz,
    updated_at    timestamptz,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    observed_at   timestamptz NOT NULL
);
COMMENT ON TABLE flows IS 'The latest state of every flow, one row each; deleted ones keep their row.';
COMMENT ON COLUMN flows.id IS 'Klaviyo''s id of the flow.';
COMMENT ON COLUMN flows.name IS 'Name; null where Klaviyo has none.';
COMMENT ON COLUMN flows.status IS 'draft, manual or live, as Klaviyo states it.';
COMMENT ON COLUMN flows.archived IS 'Whether the flow is archived.';
COMMENT ON COLUMN flows.trigger_type IS 'What starts the flow, such as Metric or Added to List.';
COMMENT ON COLUMN flows.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN flows.updated_at IS 'When Klaviyo says it was last changed (`updated`); archiving need not move it.';
COMMENT ON COLUMN flows.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN flows.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN flows.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX flows_name_idx ON flows USING hash (name);
CREATE INDEX flows_status_idx ON flows (status);
CREATE INDEX flows_trigger_type_idx ON flows (trigger_type);
CREATE INDEX flows_created_at_idx ON flows (created_at);
CREATE INDEX flows_updated_at_idx ON flows (updated_at);
CREATE INDEX flows_deleted_at_idx ON flows (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE flows_history (
    id            text NOT NULL,
    name          text,
    status        text,
    archived      boolean,
    trigger_type  text,
    created_at    timestamptz,
    updated_at    timestamptz,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    valid_from    timestamptz NOT NULL,
    valid_to      timestamptz,
    PRIMARY KEY (id, valid_from),
    CONSTRAINT flows_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE flows_history IS 'Every distinct state of every flow that was seen, deletes and returns among them; rows are added, and closed once. States that Klaviyo never showed between two syncs are not here.';
COMMENT ON COLUMN flows_history.id IS 'Klaviyo''s id of the flow.';
COMMENT ON COLUMN flows_history.name IS 'Name; null where Klaviyo has none.';
COMMENT ON COLUMN flows_history.status IS 'draft, manual or live, as Klaviyo states it.';
COMMENT ON COLUMN flows_history.archived IS 'Whether the flow is archived.';
COMMENT ON COLUMN flows_history.trigger_type IS 'What starts the flow, such as Metric or Added to List.';
COMMENT ON COLUMN flows_history.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN flows_history.updated_at IS 'When Klaviyo says it was last changed (`updated`); archiving need not move it.';
COMMENT ON COLUMN flows_history.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN flows_history.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN flows_history.valid_from IS 'When this state was first observed.';
COMMENT ON COLUMN flows_history.valid_to IS 'When the next state was first observed; null for the present state.';
CREATE UNIQUE INDEX flows_history_open_idx ON flows_history (id) WHERE valid_to IS NULL;
CREATE INDEX flows_history_valid_from_idx ON flows_history (valid_from);

CREATE FUNCTION flows_as_of(moment timestamptz) RETURNS SETOF flows_history LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT * FROM flows_history WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment);
END;
COMMENT ON FUNCTION flows_as_of(timestamptz) IS 'Every flow as it was known at that moment, deleted ones with deleted_at.';

CREATE TABLE campaigns (
    id            text PRIMARY KEY,
    name          text,
    status        text,
    archived      boolean,
    channel       text,
    scheduled_at  timestamptz,
    send_time     timestamptz,
    created_at    timestamptz,
    updated_at    timestamptz,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    observed_at   timestamptz NOT NULL
);
COMMENT ON TABLE campaigns IS 'The latest state of every campaign, one row each; deleted ones keep their row.';
COMMENT ON COLUMN campaigns.id IS 'Klaviyo''s id of the campaign.';
COMMENT ON COLUMN campaigns.name IS 'Name.';
COMMENT ON COLUMN campaigns.status IS 'Draft, Scheduled, Sent and so on, as Klaviyo states it.';
COMMENT ON COLUMN campaigns.archived IS 'Whether the campaign is archived.';
COMMENT ON COLUMN campaigns.channel IS 'email, sms or mobile_push: the channel listing that shows it; the first of these where several do.';
COMMENT ON COLUMN campaigns.scheduled_at IS 'When the campaign was scheduled.';
COMMENT ON COLUMN campaigns.send_time IS 'When it is or was sent.';
COMMENT ON COLUMN campaigns.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN campaigns.updated_at IS 'When Klaviyo says it was last changed (`updated_at`); archiving need not move it.';
COMMENT ON COLUMN campaigns.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN campaigns.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN campaigns.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX campaigns_name_idx ON campaigns USING hash (name);
CREATE INDEX campaigns_status_idx ON campaigns (status);
CREATE INDEX campaigns_channel_idx ON campaigns (channel);
CREATE INDEX campaigns_send_time_idx ON campaigns (send_time);
CREATE INDEX campaigns_created_at_idx ON campaigns (created_at);
CREATE INDEX campaigns_updated_at_idx ON campaigns (updated_at);
CREATE INDEX campaigns_deleted_at_idx ON campaigns (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE campaigns_history (
    id            text NOT NULL,
    name          text,
    status        text,
    archived      boolean,
    channel       text,
    scheduled_at  timestamptz,
    send_time     timestamptz,
    created_at    timestamptz,
    updated_at    timestamptz,
    deleted_at    timestamptz,
    raw           jsonb NOT NULL,
    valid_from    timestamptz NOT NULL,
    valid_to      timestamptz,
    PRIMARY KEY (id, valid_from),
    CONSTRAINT campaigns_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE campaigns_history IS 'Every distinct state of every campaign that was seen, deletes and returns among them; rows are added, and closed once. States that Klaviyo never showed between two syncs are not here.';
COMMENT ON COLUMN campaigns_history.id IS 'Klaviyo''s id of the campaign.';
COMMENT ON COLUMN campaigns_history.name IS 'Name.';
COMMENT ON COLUMN campaigns_history.status IS 'Draft, Scheduled, Sent and so on, as Klaviyo states it.';
COMMENT ON COLUMN campaigns_history.archived IS 'Whether the campaign is archived.';
COMMENT ON COLUMN campaigns_history.channel IS 'email, sms or mobile_push: the channel listing that shows it; the first of these where several do.';
COMMENT ON COLUMN campaigns_history.scheduled_at IS 'When the campaign was scheduled.';
COMMENT ON COLUMN campaigns_history.send_time IS 'When it is or was sent.';
COMMENT ON COLUMN campaigns_history.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN campaigns_history.updated_at IS 'When Klaviyo says it was last changed (`updated_at`); archiving need not move it.';
COMMENT ON COLUMN campaigns_history.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN campaigns_history.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN campaigns_history.valid_from IS 'When this state was first observed.';
COMMENT ON COLUMN campaigns_history.valid_to IS 'When the next state was first observed; null for the present state.';
CREATE UNIQUE INDEX campaigns_history_open_idx ON campaigns_history (id) WHERE valid_to IS NULL;
CREATE INDEX campaigns_history_valid_from_idx ON campaigns_history (valid_from);

CREATE FUNCTION campaigns_as_of(moment timestamptz) RETURNS SETOF campaigns_history LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT * FROM campaigns_history WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment);
END;
COMMENT ON FUNCTION campaigns_as_of(timestamptz) IS 'Every campaign as it was known at that moment, deleted ones with deleted_at.';

CREATE TABLE forms (
    id          text PRIMARY KEY,
    name        text,
    status      text,
    ab_test     boolean,
    created_at  timestamptz,
    updated_at  timestamptz,
    deleted_at  timestamptz,
    raw         jsonb NOT NULL,
    observed_at timestamptz NOT NULL
);
COMMENT ON TABLE forms IS 'The latest state of every sign-up form, one row each; deleted ones keep their row.';
COMMENT ON COLUMN forms.id IS 'Klaviyo''s id of the sign-up form.';
COMMENT ON COLUMN forms.name IS 'Name.';
COMMENT ON COLUMN forms.status IS 'draft or live.';
COMMENT ON COLUMN forms.ab_test IS 'Whether the form runs an A/B test.';
COMMENT ON COLUMN forms.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN forms.updated_at IS 'When Klaviyo says it was last changed (`updated_at`); archiving need not move it.';
COMMENT ON COLUMN forms.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN forms.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN forms.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX forms_name_idx ON forms USING hash (name);
CREATE INDEX forms_status_idx ON forms (status);
CREATE INDEX forms_created_at_idx ON forms (created_at);
CREATE INDEX forms_updated_at_idx ON forms (updated_at);
CREATE INDEX forms_deleted_at_idx ON forms (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE forms_history (
    id          text NOT NULL,
    name        text,
    status      text,
    ab_test     boolean,
    created_at  timestamptz,
    updated_at  timestamptz,
    deleted_at  timestamptz,
    raw         jsonb NOT NULL,
    valid_from  timestamptz NOT NULL,
    valid_to    timestamptz,
    PRIMARY KEY (id, valid_from),
    CONSTRAINT forms_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE forms_history IS 'Every distinct state of every sign-up form that was seen, deletes and returns among them; rows are added, and closed once. States that Klaviyo never showed between two syncs are not here.';
COMMENT ON COLUMN forms_history.id IS 'Klaviyo''s id of the sign-up form.';
COMMENT ON COLUMN forms_history.name IS 'Name.';
COMMENT ON COLUMN forms_history.status IS 'draft or live.';
COMMENT ON COLUMN forms_history.ab_test IS 'Whether the form runs an A/B test.';
COMMENT ON COLUMN forms_history.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN forms_history.updated_at IS 'When Klaviyo says it was last changed (`updated_at`); archiving need not move it.';
COMMENT ON COLUMN forms_history.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN forms_history.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN forms_history.valid_from IS 'When this state was first observed.';
COMMENT ON COLUMN forms_history.valid_to IS 'When the next state was first observed; null for the present state.';
CREATE UNIQUE INDEX forms_history_open_idx ON forms_history (id) WHERE valid_to IS NULL;
CREATE INDEX forms_history_valid_from_idx ON forms_history (valid_from);

CREATE FUNCTION forms_as_of(moment timestamptz) RETURNS SETOF forms_history LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT * FROM forms_history WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment);
END;
COMMENT ON FUNCTION forms_as_of(timestamptz) IS 'Every sign-up form as it was known at that moment, deleted ones with deleted_at.';

CREATE TABLE segments (
    id             text PRIMARY KEY,
    name           text,
    is_active      boolean,
    is_processing  boolean,
    is_starred     boolean,
    definition     jsonb,
    created_at     timestamptz,
    updated_at     timestamptz,
    deleted_at     timestamptz,
    raw            jsonb NOT NULL,
    observed_at    timestamptz NOT NULL
);
COMMENT ON TABLE segments IS 'The latest state of every segment, one row each; deleted ones keep their row.';
COMMENT ON COLUMN segments.id IS 'Klaviyo''s id of the segment.';
COMMENT ON COLUMN segments.name IS 'Name; null where Klaviyo has none.';
COMMENT ON COLUMN segments.is_active IS 'Whether the segment is active.';
COMMENT ON COLUMN segments.is_processing IS 'Whether Klaviyo was computing the members when it was seen.';
COMMENT ON COLUMN segments.is_starred IS 'Whether the segment is starred.';
COMMENT ON COLUMN segments.definition IS 'The conditions of the segment.';
COMMENT ON COLUMN segments.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN segments.updated_at IS 'When Klaviyo says it was last changed (`updated`); archiving need not move it.';
COMMENT ON COLUMN segments.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN segments.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN segments.observed_at IS 'When the observation that brought this state was made: the database''s clock, before the request.';
CREATE INDEX segments_name_idx ON segments USING hash (name);
CREATE INDEX segments_is_active_idx ON segments (is_active);
CREATE INDEX segments_created_at_idx ON segments (created_at);
CREATE INDEX segments_updated_at_idx ON segments (updated_at);
CREATE INDEX segments_deleted_at_idx ON segments (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE segments_history (
    id             text NOT NULL,
    name           text,
    is_active      boolean,
    is_processing  boolean,
    is_starred     boolean,
    definition     jsonb,
    created_at     timestamptz,
    updated_at     timestamptz,
    deleted_at     timestamptz,
    raw            jsonb NOT NULL,
    valid_from     timestamptz NOT NULL,
    valid_to       timestamptz,
    PRIMARY KEY (id, valid_from),
    CONSTRAINT segments_history_span CHECK (valid_to > valid_from)
);
COMMENT ON TABLE segments_history IS 'Every distinct state of every segment that was seen, deletes and returns among them; rows are added, and closed once. States that Klaviyo never showed between two syncs are not here.';
COMMENT ON COLUMN segments_history.id IS 'Klaviyo''s id of the segment.';
COMMENT ON COLUMN segments_history.name IS 'Name; null where Klaviyo has none.';
COMMENT ON COLUMN segments_history.is_active IS 'Whether the segment is active.';
COMMENT ON COLUMN segments_history.is_processing IS 'Whether Klaviyo was computing the members when it was seen.';
COMMENT ON COLUMN segments_history.is_starred IS 'Whether the segment is starred.';
COMMENT ON COLUMN segments_history.definition IS 'The conditions of the segment.';
COMMENT ON COLUMN segments_history.created_at IS 'When Klaviyo says it was created.';
COMMENT ON COLUMN segments_history.updated_at IS 'When Klaviyo says it was last changed (`updated`); archiving need not move it.';
COMMENT ON COLUMN segments_history.deleted_at IS 'When Klaviyo was found to have it no more; null while it exists.';
COMMENT ON COLUMN segments_history.raw IS 'The whole object: id, type, attributes and relationship ids. NUL and lone surrogates stand in a reversible escape.';
COMMENT ON COLUMN segments_history.valid_from IS 'When this state was first observed.';
COMMENT ON COLUMN segments_history.valid_to IS 'When the next state was first observed; null for the present state.';
CREATE UNIQUE INDEX segments_history_open_idx ON segments_history (id) WHERE valid_to IS NULL;
CREATE INDEX segments_history_valid_from_idx ON segments_history (valid_from);

CREATE FUNCTION segments_as_of(moment timestamptz) RETURNS SETOF segments_history LANGUAGE sql STABLE BEGIN ATOMIC
    SELECT * FROM segments_history WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment);
END;
COMMENT ON FUNCTION segments_as_of(timestamptz) IS 'Every segment as it was known at that moment, deleted ones with deleted_at.';
