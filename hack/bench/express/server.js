// The comparison: every event is a row in PostgreSQL before it is answered.
import express from 'express';
import pg from 'pg';

const pool = new pg.Pool({
  host: '127.0.0.1', port: Number(process.env.PGPORT), user: 'postgres', database: 'postgres', max: 10,
});
await pool.query(`CREATE TABLE events (
  id bigserial PRIMARY KEY, call_id text NOT NULL, sub_call_id text, event_type text, payload jsonb,
  received_at timestamptz DEFAULT now())`);
await pool.query('CREATE INDEX ON events (call_id)');

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.use(express.urlencoded({ extended: false }));
app.get('/readyz', (request, response) => response.status(200).end());
app.get('/count', async (request, response) => {
  const { rows } = await pool.query('SELECT count(*) FROM events');
  response.send(String(rows[0].count));
});
app.post('/ext-event/:token', async (request, response) => {
  const event = request.body;
  try {
    await pool.query('INSERT INTO events (call_id, sub_call_id, event_type, payload) VALUES ($1, $2, $3, $4)',
      [event.CallID, event.SubCallID, event.EventType, JSON.stringify(event)]);
    response.status(204).end();
  } catch (error) {
    console.error(error);
    response.status(500).end();
  }
});
app.listen(Number(process.env.PORT), '127.0.0.1');
