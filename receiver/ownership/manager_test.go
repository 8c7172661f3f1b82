package ownership_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/ownership"
)

var (
	errAway  = errors.New("the log is away")
	errOther = errors.New("somebody else was first")
)

// notes are a store in memory.
type notes struct {
	mu       sync.Mutex
	holdings map[string]ownership.Holding
	beats    map[string]uint64
	sequence uint64
	// cut are the members that do not reach it.
	cut map[string]bool
	// unheard are the members that are not told that they have claimed something.
	unheard map[string]bool
}

// way is that of one member to the notes.
type way struct {
	*notes
	member string
}

func (w way) reach() error {
	w.mu.Lock()
	if w.cut[w.member] {
		w.mu.Unlock()
		return errAway
	}
	w.sequence++
	return nil
}

func (w way) Look(context.Context) (ownership.Sight, error) {
	if err := w.reach(); err != nil {
		return ownership.Sight{}, err
	}
	defer w.mu.Unlock()
	return ownership.Sight{Holdings: maps.Clone(w.holdings), Beats: maps.Clone(w.beats)}, nil
}

func (w way) Beat(_ context.Context, member string) error {
	if err := w.reach(); err != nil {
		return err
	}
	defer w.mu.Unlock()
	w.beats[member] = w.sequence
	return nil
}

func (w way) Leave(_ context.Context, member string) error {
	if err := w.reach(); err != nil {
		return err
	}
	defer w.mu.Unlock()
	delete(w.beats, member)
	return nil
}

func (w way) Claim(_ context.Context, slot string, before ownership.Holding, member string) (ownership.Holding, error) {
	if err := w.reach(); err != nil {
		return ownership.Holding{}, err
	}
	defer w.mu.Unlock()
	if w.holdings[slot].Sequence != before.Sequence {
		return ownership.Holding{}, errOther
	}
	held := ownership.Holding{Owner: member, Term: before.Term + 1, Sequence: w.sequence}
	w.holdings[slot] = held
	if w.unheard[w.member] {
		return ownership.Holding{}, errAway
	}
	return held, nil
}

func (w way) Release(_ context.Context, slot string, held ownership.Holding) error {
	if err := w.reach(); err != nil {
		return err
	}
	defer w.mu.Unlock()
	if w.holdings[slot].Sequence != held.Sequence {
		return errOther
	}
	w.holdings[slot] = ownership.Holding{Term: held.Term, Sequence: w.sequence}
	return nil
}

// staff are some members, and who works on what.
type staff struct {
	notes *notes
	mu    sync.Mutex
	work  map[string][]string
	stop  map[string]context.CancelFunc
	ended sync.WaitGroup
}

func newStaff() *staff {
	return &staff{
		notes: &notes{holdings: make(map[string]ownership.Holding), beats: make(map[string]uint64), cut: make(map[string]bool), unheard: make(map[string]bool)},
		work:  make(map[string][]string), stop: make(map[string]context.CancelFunc),
	}
}

func (s *staff) join(ctx context.Context, name string) {
	ctx, s.stop[name] = context.WithCancel(ctx)
	start := time.Now()
	m := ownership.New(ownership.Config{
		Self: name, Slots: slots, Store: way{s.notes, name}, Logger: slog.New(slog.DiscardHandler),
		Elapsed: func() time.Duration { return time.Since(start) },
		Work: func(ctx context.Context, slot string, _ uint64) error {
			s.mu.Lock()
			s.work[slot] = append(s.work[slot], name)
			s.mu.Unlock()
			<-ctx.Done()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.work[slot] = slices.DeleteFunc(s.work[slot], func(other string) bool { return other == name })
			return nil
		},
	})
	s.ended.Go(func() { m.Run(ctx) })
}

func (s *staff) cutOff(name string) {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	s.notes.cut[name] = true
}

// requireAllWork demands that each slot is worked on by one of these.
func (s *staff) requireAllWork(t *testing.T, when string, names ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := make(map[string]bool)
	for _, slot := range slots {
		if workers := s.work[slot]; len(workers) != 1 || !slices.Contains(names, workers[0]) {
			t.Errorf("%s %s is the work of %v", when, slot, workers)
			continue
		}
		busy[s.work[slot][0]] = true
	}
	if len(busy) != len(names) {
		t.Errorf("%s only %v work", when, busy)
	}
}

// The publisher, and everything else, is taken over from a member that leaves, and from one that is
// cut off. The latter stops by itself.
func (s *staff) leaveUnheard(name string, unheard bool) {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	s.notes.unheard[name] = unheard
}

// A member that has claimed slots without knowing it leaves them to others when they are theirs.
func TestWhatNobodyKnowsToOwnIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStaff()
		ctx, cancel := context.WithCancel(t.Context())
		s.leaveUnheard("b", true)
		for _, name := range []string{"a", "b", "c"} {
			s.join(ctx, name)
			time.Sleep(5 * time.Second)
		}
		s.leaveUnheard("b", false)
		time.Sleep(5 * time.Second)
		s.requireAllWork(t, "in the end", "a", "b", "c")
		cancel()
		s.ended.Wait()
	})
}

func TestWorkIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStaff()
		ctx, cancel := context.WithCancel(t.Context())
		for _, name := range []string{"a", "b", "c"} {
			s.join(ctx, name)
		}
		time.Sleep(10 * time.Second)
		s.requireAllWork(t, "at first", "a", "b", "c")
		s.stop["b"]()
		time.Sleep(2 * ownership.DefaultInterval)
		s.requireAllWork(t, "after one has left", "a", "c")
		s.cutOff("c")
		time.Sleep(ownership.DefaultTTL + 3*ownership.DefaultInterval)
		s.requireAllWork(t, "after one was cut off", "a")
		s.join(ctx, "d")
		// Two heartbeats show that it is alive, the next look has others release, and one more takes.
		time.Sleep(5 * ownership.DefaultInterval)
		s.requireAllWork(t, "after one has joined", "a", "d")
		cancel()
		s.ended.Wait()
	})
}
