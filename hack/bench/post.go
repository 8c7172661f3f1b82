package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pbx-operator/pbx-operator/receiver/ingest"
)

// The kinds of events of a leg, in their order.
const (
	dialIn = iota
	answered
	hangup
	kinds
)

// wireEvent is an event of a leg of a call, as RingMe sends it.
type wireEvent struct {
	call string
	leg  int
	kind int
}

func (e wireEvent) url(address string) string {
	return fmt.Sprintf("http://%s/ext-event/%032d", address, e.leg%extensions)
}

func (e wireEvent) body() string {
	const perLeg, talk = 10 * time.Second, 5 * time.Second
	names, statuses := [kinds]string{"dial-in", "answer", "hangup"}, [kinds]string{"CALLING", "ANSWER", "ANSWER"}
	began := time.Now().Truncate(time.Hour).Add(-time.Hour + time.Duration(e.leg%100)*perLeg)
	short := fmt.Sprintf("1234*%d", 100+e.leg%extensions)
	form := url.Values{
		"EventType": {names[e.kind]}, "CallStatus": {statuses[e.kind]}, "CallFlow": {"in"},
		"EventTime": {strconv.FormatInt(began.Add(time.Duration(e.kind)*talk).UnixMicro(), 10)},
		"CallID":    {e.call}, "SubCallID": {fmt.Sprintf("%d-%s", e.leg, e.call)},
		"CallerIDNum": {"+12025550143"}, "CalledNumber": {short}, "CalledExtension": {short + "@sip.example.com"},
		"CalledExtensionID": {strconv.Itoa(5100 + e.leg%extensions)}, "CalledDID": {"12025550100"},
	}
	return form.Encode()
}

// post sends a number of events over many connections, beginning them in order. Each has to be
// answered with success.
func post(ctx context.Context, address string, count int, event func(n int) wireEvent) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
				if err := postOne(ctx, client, address, event(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func postOne(ctx context.Context, client *http.Client, address string, event wireEvent) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, event.url(address), strings.NewReader(event.body()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", ingest.FormType)
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("cannot send an event: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return fmt.Errorf("cannot read an answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("an event was answered %s", response.Status)
	}
	return nil
}
