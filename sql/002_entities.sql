-- Entities: the latest state of every object, and every state that was observed.
--
-- `observed_at` orders all writes: a row is replaced only by a later observation with different content.

CALL create_entity('flows', 'flow', ARRAY[
    ['name', 'text', 'Name; NULL if Klaviyo has none.'],
    ['status', 'text', 'draft, manual or live, as Klaviyo states it.'],
    ['archived', 'boolean', 'Whether the flow is archived.'],
    ['trigger_type', 'text', 'What starts the flow, such as Metric or Added to List.']
]);
CREATE INDEX ON flows (status);
CREATE INDEX ON flows (trigger_type);

CALL create_entity('campaigns', 'campaign', ARRAY[
    ['name', 'text', 'Name.'],
    ['status', 'text', 'Derived from the statuses of its messages: Sending if one is sending, or if one is sent and another is scheduled; otherwise the first of Scheduled, Sent, Draft and Cancelled that a message has. A campaign without messages is Draft. At revision 2026-07-15, the status as Klaviyo states it.'],
    ['archived', 'boolean', 'Whether the campaign is archived.'],
    ['channel', 'text', 'The campaign''s channel: email, sms, mobile_push or whatsapp; the first of these if it has several.'],
    ['scheduled_at', 'timestamptz', 'When the campaign was scheduled; NULL since revision 2026-10-15.'],
    ['send_time', 'timestamptz', 'When it is or was sent: the earliest send time of its messages.']
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
    ['name', 'text', 'Name; NULL if Klaviyo has none.'],
    ['is_active', 'boolean', 'Whether the segment is active.'],
    ['is_processing', 'boolean', 'Whether Klaviyo was computing the members when the segment was observed.'],
    ['is_starred', 'boolean', 'Whether the segment is starred.'],
    ['definition', 'jsonb', 'The conditions of the segment.']
]);
CREATE INDEX ON segments (is_active);
