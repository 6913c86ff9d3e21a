-- The requests to Klaviyo: the rate that all processes share, and what each run requested.

CALL create_table('api_pacing', 'The request slots that all processes of this account share, one row per endpoint.', ARRAY[
    ['endpoint', 'text', 'Klaviyo''s name of the operation, such as get_flows.'],
    ['slots', 'timestamptz[] NOT NULL DEFAULT ''{}''', 'The last reserved slots, oldest first, as many as the longest published rate needs.'],
    ['blocked_until', 'timestamptz', 'Klaviyo answered 429: no request is sent before this moment.']
], 'PRIMARY KEY (endpoint)');

CALL create_table('api_calls', 'Requests to Klaviyo by run and endpoint, failed runs included; written after the run''s last request. Seconds of concurrent requests add up to more than the run took.', ARRAY[
    ['run_id', 'text', 'The Dagster run.'],
    ['endpoint', 'text', 'Klaviyo''s name of the operation, such as get_flows.'],
    ['requests', 'integer NOT NULL', 'Requests that were sent, each attempt counted.'],
    ['throttled', 'integer NOT NULL', 'Requests among these that were answered 429.'],
    ['retries', 'integer NOT NULL', 'Requests among these that repeated a failed one.'],
    ['rows', 'bigint NOT NULL', 'Objects or report results in the answers.'],
    ['waited_seconds', 'numeric(12, 3) NOT NULL', 'Time spent waiting before requests: the published rates, blocks after a 429, pauses before another attempt.'],
    ['read_seconds', 'numeric(12, 3) NOT NULL', 'Time from sending a request to the end of its answer.'],
    ['first_at', 'timestamptz NOT NULL', 'When the first of them was answered, or failed.'],
    ['last_at', 'timestamptz NOT NULL', 'When the last of them was answered, or failed.']
], 'PRIMARY KEY (run_id, endpoint)');
CREATE INDEX ON api_calls (last_at);
