package ownership

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Defaults of a Manager.
const (
	DefaultInterval = 500 * time.Millisecond
	DefaultTTL      = 2500 * time.Millisecond
	// forgetAfter is how many times to live a member is gone before its heartbeat is removed.
	forgetAfter = 20
)

// Sight is what the members have noted.
type Sight struct {
	Holdings map[string]Holding
	// Beats are the sequences of the members' newest heartbeats.
	Beats map[string]uint64
}

// Store is where members note what they own.
type Store interface {
	Look(ctx context.Context) (Sight, error)
	// Beat notes that a member is alive.
	Beat(ctx context.Context, member string) error
	// Leave removes the heartbeat of a member.
	Leave(ctx context.Context, member string) error
	// Claim makes a member the owner of a slot, with a new term. It fails where the holding is not
	// the one that is given.
	Claim(ctx context.Context, slot string, before Holding, member string) (Holding, error)
	// Release leaves a slot without an owner. It fails where the holding is another one.
	Release(ctx context.Context, slot string, held Holding) error
}

// Config says what a Manager works with.
type Config struct {
	// Self is the name of this member. No other process has it, not even an earlier one of the same
	// pod.
	Self  string
	Slots []string
	Store Store
	// Work works on a slot until ctx ends, or until it finds that somebody else owns the slot.
	Work func(ctx context.Context, slot string, term uint64) error
	// Elapsed is the time since some moment, by a clock that never jumps.
	Elapsed func() time.Duration
	Logger  *slog.Logger
}

// Manager owns a member's share of the slots.
type Manager struct {
	config Config
	watch  Watch
	duties map[string]*duty
	// looked is when the notes of all members were last read.
	looked time.Duration
	ended  chan struct{}
}

// duty is the work on one slot.
type duty struct {
	held Holding
	stop context.CancelFunc
	done chan struct{}
	// stopping tells that it was told to stop, and releasing, that the slot is released then.
	stopping, releasing bool
}

func (d *duty) isDone() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// New makes a manager. Run starts it.
func New(config Config) *Manager {
	return &Manager{config: config, watch: Watch{TTL: DefaultTTL}, duties: make(map[string]*duty), ended: make(chan struct{}, 1)}
}

// Run owns and works until ctx ends, and releases everything then.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(DefaultInterval)
	defer ticker.Stop()
	m.looked = m.config.Elapsed()
	for ctx.Err() == nil {
		m.tick(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-m.ended:
		}
	}
	m.leave(context.WithoutCancel(ctx))
}

// tick looks at what all members have noted and does what follows. Who cannot look for too long
// stops: others may have taken over.
func (m *Manager) tick(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, DefaultTTL)
	defer cancel()
	sight, err := m.exchange(limited)
	now := m.config.Elapsed()
	if err != nil {
		m.config.Logger.Warn("cannot learn which receiver owns what", "error", err)
		if now-m.looked >= DefaultTTL {
			for _, d := range m.duties {
				d.halt()
			}
		}
		return
	}
	m.looked = now
	m.settle(limited, sight)
	alive, doubtful := m.watch.Look(sight.Beats, now)
	if !slices.Contains(alive, m.config.Self) {
		return
	}
	m.carryOut(ctx, limited, sight, Decide(View{
		Self: m.config.Self, Slots: m.config.Slots, Holdings: sight.Holdings, Alive: alive, Doubtful: doubtful, Held: m.held(),
	}))
	for _, member := range m.watch.Gone(forgetAfter*DefaultTTL, now) {
		_ = m.config.Store.Leave(limited, member) // the next tick tries again
	}
}

// exchange tells the others that this member is alive, and learns of them.
func (m *Manager) exchange(ctx context.Context) (Sight, error) {
	if err := m.config.Store.Beat(ctx, m.config.Self); err != nil {
		return Sight{}, err
	}
	return m.config.Store.Look(ctx)
}

// settle lets go of duties that have ended, and releases their slots where that was intended.
func (m *Manager) settle(ctx context.Context, sight Sight) {
	for slot, d := range m.duties {
		if !d.isDone() {
			continue
		}
		delete(m.duties, slot)
		if !d.releasing {
			continue
		}
		if err := m.config.Store.Release(ctx, slot, d.held); err == nil {
			sight.Holdings[slot] = Holding{Term: d.held.Term}
		}
	}
}

// held are the slots that are worked on. One that is about to be left counts as such until then.
func (m *Manager) held() map[string]bool {
	held := make(map[string]bool, len(m.duties))
	for slot := range m.duties {
		held[slot] = true
	}
	return held
}

func (m *Manager) carryOut(ctx, limited context.Context, sight Sight, d Decision) {
	for _, slot := range d.Drop {
		m.duties[slot].halt()
	}
	for _, slot := range d.Vacate {
		_ = m.config.Store.Release(limited, slot, sight.Holdings[slot]) // the next tick tries again
	}
	for _, slot := range d.Release {
		m.duties[slot].releasing = true
		m.duties[slot].halt()
	}
	var claiming sync.WaitGroup
	claimed := make([]Holding, len(d.Take))
	for i, slot := range d.Take {
		claiming.Go(func() {
			held, err := m.config.Store.Claim(limited, slot, sight.Holdings[slot], m.config.Self)
			if err != nil {
				m.config.Logger.Info("a slot could not be taken, as others are faster or the log is away", "slot", slot, "error", err)
				return
			}
			claimed[i] = held
		})
	}
	claiming.Wait()
	for i, slot := range d.Take {
		if claimed[i].Owner != "" {
			m.begin(ctx, slot, claimed[i])
		}
	}
}

// begin works on a slot.
func (m *Manager) begin(ctx context.Context, slot string, held Holding) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &duty{held: held, stop: stop, done: make(chan struct{})}
	m.duties[slot] = d
	go func() {
		defer close(d.done)
		defer stop()
		if err := m.config.Work(working, slot, held.Term); err != nil && working.Err() == nil {
			m.config.Logger.Warn("the work on a slot has ended", "slot", slot, "error", err)
		}
		select {
		case m.ended <- struct{}{}:
		default:
		}
	}()
}

// halt has the work end.
func (d *duty) halt() {
	if !d.stopping {
		d.stopping = true
		d.stop()
	}
}

// leave ends all work, releases the slots and says good-bye.
func (m *Manager) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTTL)
	defer cancel()
	var releasing sync.WaitGroup
	for slot, d := range m.duties {
		d.halt()
		releasing.Go(func() {
			<-d.done
			_ = m.config.Store.Release(ctx, slot, d.held) // else it is taken over a little later
		})
	}
	releasing.Wait()
	_ = m.config.Store.Leave(ctx, m.config.Self) // the heartbeat ends in any case
}
