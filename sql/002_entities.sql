-- The entities: the latest state of every object, and every state that was seen.
--
-- `observed_at` orders all writes: a row is replaced only by a later observation of a different content.

CALL create_entity('flows', 'flow', ARRAY[
    ['name', 'text', 'Name; NULL where Klaviyo has none.'],
    ['status', 'text', 'draft, manual or live, as Klaviyo states it.'],
    ['archived', 'boolean', 'Whether the flow is archived.'],
    ['trigger_type', 'text', 'What starts the flow, such as Metric or Added to List.']
]);
CREATE INDEX ON flows (status);
CREATE INDEX ON flows (trigger_type);

CALL create_entity('campaigns', 'campaign', ARRAY[
    ['name', 'text', 'Name.'],
    ['status', 'text', 'Draft, Scheduled, Sent and so on, as Klaviyo states it.'],
    ['archived', 'boolean', 'Whether the campaign is archived.'],
    ['channel', 'text', 'email, sms or mobile_push: the channel whose listing has it, the first of these where several do.'],
    ['scheduled_at', 'timestamptz', 'When the campaign was scheduled.'],
    ['send_time', 'timestamptz', 'When it is or was sent.']
]);
CREATE INDEX ON campaigns (status);
CREATE INDEX ON campaigns (channel);
CREATE INDEX ON campaigns (send_time);

CALL create_entity('forms', 'sign-up form', ARRAY[
    ['name', 'text', 'Name.'],
    ['status', 'text', 'draft or live.'],
    ['ab_test', 'boolean', 'Whether the form runs an A/B test.']
]);
CREATE INDEX ON forms (status);

CALL create_entity('segments', 'segment', ARRAY[
    ['name', 'text', 'Name; NULL where Klaviyo has none.'],
    ['is_active', 'boolean', 'Whether the segment is active.'],
    ['is_processing', 'boolean', 'Whether Klaviyo was computing the members when it was seen.'],
    ['is_starred', 'boolean', 'Whether the segment is starred.'],
    ['definition', 'jsonb', 'The conditions of the segment.']
]);
CREATE INDEX ON segments (is_active);
