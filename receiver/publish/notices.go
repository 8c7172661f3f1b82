package publish

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/shorten"
)

const (
	reportingController = "pbx-operator.io/receiver"
	actionPublish       = "PublishCallLeg"
	actionDecode        = "DecodeEvent"
	actionCorrelate     = "CorrelateEvents"

	kindIntegration = "PBXIntegration"
	kindMapping     = "ExtensionMapping"
	kindLeg         = "CallLeg"

	// Missed calls: so many at once, then one per missedEvery. What a client of Kubernetes Events
	// may do by default is less.
	missedBurst = 25
	missedEvery = 5 * time.Second
	// Other notices sum up what happened since the last one.
	noticeBurst = 3
	noticeEvery = time.Minute

	// staleAfter is when a missed call is no news any more; Kubernetes keeps Events for an hour.
	staleAfter = time.Hour
	maxNote    = 1024
	maxReason  = 256
)

// Outcomes of a notice, as the label outcome of pbx_receiver_notices_total.
const (
	noticePosted     = "posted"
	noticeSuppressed = "suppressed"
	noticeFailed     = "failed"
)

// NoticesConfig is what Notices need.
type NoticesConfig struct {
	// Client writes without a cache; its scheme is that of NewScheme.
	Client      client.Client
	Integration types.NamespacedName
	// Policy tells the UID of the integration; false when it is gone.
	Policy func() (Policy, bool)
	// Instance is the name of this pod.
	Instance   string
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Notices posts Kubernetes Events: a notice board for people, not a record. All of it is
// rate-capped.
type Notices struct {
	NoticesConfig
	missedCalls *rate.Limiter
	mu          sync.Mutex
	suppressed  int
	quarantine  *summary
	limit       *summary
	rejected    *summary
	skipped     *summary
	trouble     *summary
	total       *prometheus.CounterVec
}

// NewNotices makes Notices. Missed calls are posted at once; the others by Run.
func NewNotices(config NoticesConfig) *Notices {
	return &Notices{
		NoticesConfig: config,
		missedCalls:   rate.NewLimiter(rate.Every(missedEvery), missedBurst),
		quarantine:    newSummary(v1alpha1.ReasonEventQuarantined, actionDecode),
		limit:         newSummary(v1alpha1.ReasonCallLegLimitReached, actionPublish),
		rejected:      newSummary(v1alpha1.ReasonCallLegRefused, actionPublish),
		skipped:       newSummary(v1alpha1.ReasonPublicationBehind, actionPublish),
		trouble:       newSummary(v1alpha1.ConditionDegraded, actionCorrelate),
		total: promauto.With(config.Registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "pbx_receiver_notices_total", Help: "Kubernetes Events by reason; suppressed ones were too many.",
		}, []string{"reason", "outcome"}),
	}
}

// Run posts notices until ctx is done.
func (n *Notices) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, summary := range []*summary{n.quarantine, n.limit, n.rejected, n.skipped, n.trouble} {
		group.Go(func() error { n.post(ctx, summary); return nil })
	}
	return group.Wait()
}

// Quarantined tells that count events of the PBX could not be understood. It never blocks. The
// reason must not repeat what was in them: it is shown to whoever may read Events.
func (n *Notices) Quarantined(count int, reason string) {
	n.quarantine.add(count, func(count int) string {
		return fmt.Sprintf("%d %s of the PBX could not be understood and went into quarantine, the last one because: %s",
			count, plural(count, "event"), shorten.Characters(reason, maxReason))
	})
}

// Degraded tells that something is wrong with the receiver, and what to do. It never blocks.
func (n *Notices) Degraded(reason, message string) {
	n.trouble.add(1, func(int) string { return reason + ": " + message })
}

// limitReached tells that a leg is not shown because live ones fill all places.
func (n *Notices) limitReached(limit int) {
	n.limit.add(1, func(count int) string {
		return fmt.Sprintf("%d %s of call legs not shown: all %d CallLegs that spec.callLegs.maxObjects allows are of live calls; "+
			"raise it, or set spec.callLegs.publish to Completed", count, plural(count, "change"), limit)
	})
}

// behind tells that a leg is not shown because newer ones came faster than the API server takes
// them.
func (n *Notices) behind(limit int) {
	n.skipped.add(1, func(count int) string {
		return fmt.Sprintf("%d call %s not shown: calls come faster than the Kubernetes API takes CallLegs, and newer ones have taken the %d places "+
			"that spec.callLegs.maxObjects allows; set spec.callLegs.publish to Completed for fewer writes", count, plural(count, "leg"), limit)
	})
}

// refused tells that the API server refuses a leg.
func (n *Notices) refused(why string) {
	n.rejected.add(1, func(count int) string {
		return fmt.Sprintf("%d call %s not shown, because the Kubernetes API refuses them, the last one for: %s",
			count, plural(count, "leg"), shorten.Characters(why, maxReason))
	})
}

// reference names an object by kind.
type reference struct {
	kind string
	Reference
}

// missed posts one Event per missed call. Its name follows from the leg, so a repetition finds it
// there already.
func (n *Notices) missed(ctx context.Context, regarding, leg reference, call correlation.Leg) error {
	if !call.End.IsZero() && time.Since(call.End) > staleAfter {
		return nil
	}
	now := time.Now()
	reservation := n.missedCalls.ReserveN(now, 1)
	if reservation.DelayFrom(now) > 0 {
		reservation.CancelAt(now)
		n.suppress(1)
		return nil
	}
	suppressed := n.takeSuppressed()
	policy, _ := n.Policy()
	note := missedNote(call, suppressed, policy.MaskNumbers)
	event := n.event(leg.Name+".missed", v1alpha1.ReasonMissedCall, actionPublish, regarding, note)
	event.Related = n.objectReference(leg)
	err := n.create(ctx, event)
	if transient(err) {
		reservation.CancelAt(now) // the attempt does not count
		n.restore(suppressed)
		return err
	}
	return nil
}

// missedNote is for people: who called, whom, where and for how long.
func missedNote(call correlation.Leg, suppressed int, masked bool) string {
	show := func(number string) string { return number }
	if masked {
		show = maskNumber
	}
	note := &strings.Builder{}
	fmt.Fprintf(note, "Missed call from %s to %s", orUnknown(show(call.From)), orUnknown(show(cmp.Or(call.DID, call.To))))
	if call.Extension != "" {
		fmt.Fprintf(note, " at %s", show(call.Extension))
	}
	if waited := call.End.Sub(call.Start).Round(time.Second); !call.Start.IsZero() && waited > 0 {
		fmt.Fprintf(note, ", waited %d s", int(waited.Seconds()))
	}
	if suppressed > 0 {
		fmt.Fprintf(note, " (%d more missed %s had no Event of their own)", suppressed, plural(suppressed, "call"))
	}
	return note.String()
}

const (
	// shownDigits is how many digits of a masked number are shown: enough to tell two calls apart
	// that one has in mind, too few to call somebody.
	shownDigits = 2
	// insideDigits is how many digits a number has at most that is taken for an extension or a
	// service.
	insideDigits = 6
)

// maskNumber hides an outside number but for its last digits, and what is no number, such as the
// name of a SIP user, as a whole. Extensions stay: 101, 1234*101.
func maskNumber(number string) string {
	const mask, digits = "***", "0123456789"
	user, domain, _ := strings.Cut(number, "@")
	dialled := strings.TrimPrefix(user, "+")
	switch {
	case number == "":
		return ""
	case dialled == "" || strings.Trim(dialled, digits+"*") != "":
		return mask
	case domain == "" && (len(dialled) <= insideDigits || strings.Contains(dialled, "*")):
		return number
	default:
		return mask + dialled[max(len(dialled)-shownDigits, 0):]
	}
}

func orUnknown(number string) string {
	if number == "" {
		return "an unknown number"
	}
	return number
}

func plural(count int, noun string) string {
	if count == 1 {
		return noun
	}
	return noun + "s"
}

func (n *Notices) suppress(count int) {
	n.total.WithLabelValues(v1alpha1.ReasonMissedCall, noticeSuppressed).Add(float64(count))
	n.restore(count)
}

func (n *Notices) restore(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.suppressed += count
}

func (n *Notices) takeSuppressed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := n.suppressed
	n.suppressed = 0
	return count
}

// post writes the notices of one kind, each of which sums up what came in since the last one.
func (n *Notices) post(ctx context.Context, about *summary) {
	limiter := rate.NewLimiter(rate.Every(noticeEvery), noticeBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case <-about.wake:
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		count, note := about.take()
		policy, ok := n.Policy()
		if !ok || count == 0 {
			continue
		}
		name := n.Integration.Name + "." + strings.ToLower(rand.Text())
		event := n.event(name, about.reason, about.action, reference{kindIntegration, policy.Integration}, note(count))
		if transient(n.create(ctx, event)) {
			about.add(count, note)
		}
	}
}

func (n *Notices) event(name, reason, action string, regarding reference, note string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: n.Integration.Namespace, Name: name, Labels: map[string]string{v1alpha1.LabelIntegration: n.Integration.Name},
		},
		EventTime:           metav1.NowMicro(),
		ReportingController: reportingController,
		ReportingInstance:   shorten.Characters(n.Instance, 128),
		Type:                corev1.EventTypeWarning,
		Reason:              reason,
		Action:              action,
		Regarding:           *n.objectReference(regarding),
		Note:                shorten.Characters(note, maxNote),
	}
}

func (n *Notices) objectReference(to reference) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: to.kind, Namespace: n.Integration.Namespace, Name: to.Name, UID: to.UID,
	}
}

// transient reports whether a notice is worth another attempt. A receiver that may not post Events
// goes on without them.
func transient(err error) bool { return outcomeOf(err) == later && !apierrors.IsForbidden(err) }

// create posts an Event. One that exists already is as good as posted.
func (n *Notices) create(ctx context.Context, event *eventsv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := n.Client.Create(ctx, event)
	switch {
	case err == nil:
		n.total.WithLabelValues(event.Reason, noticePosted).Inc()
	case apierrors.IsAlreadyExists(err):
		return nil
	default:
		n.total.WithLabelValues(event.Reason, noticeFailed).Inc()
		n.Logger.WarnContext(ctx, "cannot post a Kubernetes Event", "reason", event.Reason, "why", refusal(err))
	}
	return err
}

// summary collects what one kind of notice is about until it may be posted.
type summary struct {
	reason, action string
	wake           chan struct{}
	mu             sync.Mutex
	count          int
	note           func(count int) string
}

func newSummary(reason, action string) *summary {
	return &summary{reason: reason, action: action, wake: make(chan struct{}, 1)}
}

func (b *summary) add(count int, note func(int) string) {
	b.mu.Lock()
	b.count += count
	b.note = note
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *summary) take() (int, func(int) string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := b.count
	b.count = 0
	return count, b.note
}
