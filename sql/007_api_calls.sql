-- What each run asked of Klaviyo, and what it waited for: a slow sync explains itself.

CREATE TABLE api_calls (
    run_id          text NOT NULL,
    endpoint        text NOT NULL,
    requests        integer NOT NULL,
    throttled       integer NOT NULL,
    retries         integer NOT NULL,
    rows            bigint NOT NULL,
    waited_seconds  numeric(12, 3) NOT NULL,
    read_seconds    numeric(12, 3) NOT NULL,
    first_at        timestamptz NOT NULL,
    last_at         timestamptz NOT NULL,
    PRIMARY KEY (run_id, endpoint)
);
COMMENT ON TABLE api_calls IS 'Requests to Klaviyo by run and endpoint, failed runs included; written when the run has asked its last. Seconds of requests side by side add up to more than the run took.';
COMMENT ON COLUMN api_calls.run_id IS 'The Dagster run.';
COMMENT ON COLUMN api_calls.endpoint IS 'Klaviyo''s name of the operation, such as get_flows.';
COMMENT ON COLUMN api_calls.requests IS 'Requests that were sent, each attempt counted.';
COMMENT ON COLUMN api_calls.throttled IS 'Of these, answered 429.';
COMMENT ON COLUMN api_calls.retries IS 'Of these, attempts after a first one that failed.';
COMMENT ON COLUMN api_calls.rows IS 'Objects or report results in the answers.';
COMMENT ON COLUMN api_calls.waited_seconds IS 'Time spent waiting for leave to ask: the published rates, blocks after a 429, pauses before another attempt.';
COMMENT ON COLUMN api_calls.read_seconds IS 'Time from sending a request to the end of its answer.';
COMMENT ON COLUMN api_calls.first_at IS 'When the first of them had been answered, or had failed.';
COMMENT ON COLUMN api_calls.last_at IS 'When the last of them had been answered, or had failed.';
CREATE INDEX api_calls_last_at_idx ON api_calls (last_at);
