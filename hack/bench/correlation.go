package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

const (
	correlationRatio  = "correlation alone, legs derived after each event / once per call"
	correlationMemory = "correlation alone, memory per open leg"

	// openCalls go on at the same time: what two events of a call need of the processor's caches is
	// long gone.
	openCalls       = 10_000
	memoryCalls     = 100_000
	correlationTime = 3 * time.Second
)

func correlationGroup() group {
	return group{name: "correlation", measure: measureCorrelation, rows: []row{
		promise(correlationRatio, "×", atLeast(0.8)),
		promise(correlationMemory, "B", atMost(2048)),
	}}
}

func measureCorrelation(ctx context.Context, b *bench, s *sheet) error {
	b.progressf("deriving legs")
	each, err := correlate(ctx, deliver)
	if err != nil {
		return err
	}
	once, err := correlate(ctx, collect)
	if err != nil {
		return err
	}
	s.set(correlationRatio, each/once, "events per second of processor time: %s and %s; dial-in, answer, hangup of %s calls at a time",
		number(each), number(once), number(openCalls))
	s.set(correlationMemory, openLegBytes(), "%s answered calls of one leg each, in a map; what the stages around it keep is not in it", number(memoryCalls))
	return nil
}

// correlate has events given to calls, in steps of one event for each call, and counts them per
// second of processor time.
func correlate(ctx context.Context, give func(calls, []callevent.Event, bool) error) (perSecond float64, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	steps := [3][]callevent.Event{}
	for i := range openCalls {
		for step, event := range callEvents(i) {
			steps[step] = append(steps[step], event)
		}
	}
	events := 0
	before, err := now()
	if err != nil {
		return 0, err
	}
	for ctx.Err() == nil && time.Since(before.at) < correlationTime {
		open := make(calls, openCalls)
		for i, step := range steps {
			if err := give(open, step, i == len(steps)-1); err != nil {
				return 0, err
			}
			events += len(step)
		}
	}
	after, err := now()
	return float64(events) / (after.own - before.own).Seconds(), errors.Join(err, ctx.Err())
}

type calls map[string]*correlation.Call

func (c calls) add(event callevent.Event) *correlation.Call {
	call, ok := c[event.CallID]
	if !ok {
		call = &correlation.Call{}
		c[event.CallID] = call
	}
	call.Add(event)
	return call
}

// deliver derives the legs after each event, as a receiver does whose calls take longer than its
// passes.
func deliver(open calls, events []callevent.Event, _ bool) error {
	for i := range events {
		if err := derive(open.add(events[i])); err != nil {
			return err
		}
	}
	return nil
}

// collect derives the legs after the last event of a call only, as a receiver does that catches up.
func collect(open calls, events []callevent.Event, last bool) error {
	for i := range events {
		call := open.add(events[i])
		if !last {
			continue
		}
		if err := derive(call); err != nil {
			return err
		}
	}
	return nil
}

func derive(call *correlation.Call) error {
	if outcome := call.Outcome(correlation.DefaultRules()); len(outcome.Legs) != 1 {
		return fmt.Errorf("a call with one leg was correlated to %d", len(outcome.Legs))
	}
	return nil
}

// openLegBytes is what the heap grows by for one call with one answered leg.
func openLegBytes() float64 {
	before := heap()
	open := make(calls)
	for i := range memoryCalls {
		events := callEvents(i)
		open.add(events[0])
		open.add(events[1])
	}
	after := heap()
	runtime.KeepAlive(open)
	return (after - before) / memoryCalls
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // the second one frees what finalizers held
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// callEvents are the events of the same calls that form.lua sends, decoded.
func callEvents(call int) [3]callevent.Event {
	ended := time.Now().UTC().Truncate(time.Microsecond)
	talk := time.Minute
	own := call % extensions
	number, id := fmt.Sprintf("1234*%d", 100+own), fmt.Sprint(5100+own)
	callID := fmt.Sprintf("%032x", call)
	customer := fmt.Sprintf("+1202%07d", call)
	base := callevent.Event{
		CallID: callID, LegID: id + "-" + callID, Received: ended,
		Source: callevent.Source{Type: callevent.Phone, Number: number, ID: id, User: fmt.Sprintf("user-%d", own)}, Flow: callevent.FlowIn,
		Caller: callevent.Party{Number: customer, Name: customer}, Called: callevent.Party{Number: number, Extension: number, ExtensionID: id, Local: true},
		DID: "12025550100", ControlID: "1000000001-" + callID,
	}
	at := func(t callevent.Type, status callevent.Status, wire string, offset time.Duration) callevent.Event {
		event := base
		event.Type, event.Status, event.WireStatus, event.Time = t, status, wire, ended.Add(offset)
		event.ID = fmt.Sprintf("%s/%s/%d", t, event.LegID, event.Time.UnixMicro())
		return event
	}
	hangup := at(callevent.Hangup, callevent.StatusAnswered, "ANSWER", 0)
	hangup.Talk, hangup.RecordingID = &talk, id+"-"+callID
	return [3]callevent.Event{
		at(callevent.DialIn, callevent.StatusCalling, "CALLING", -66*time.Second),
		at(callevent.Answer, callevent.StatusAnswered, "ANSWER", -time.Minute), hangup,
	}
}
