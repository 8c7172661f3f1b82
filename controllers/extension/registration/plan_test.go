package registration_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/extension/registration"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

const (
	newToken     = "newnewnewnewnewnewnewnewnewnewne"
	oldToken     = "oldoldoldoldoldoldoldoldoldoldol"
	foreignToken = "somesomesomesomesomesomesomesome"
	host         = "https://calls.example.com"
)

var own = registration.Tokens{newToken, oldToken}

func urlOf(token string) string { return eventurl.URL(host, token, "") }

func desiredOf(events ...v1alpha1.EventType) []pbxapi.Registration {
	var list []pbxapi.Registration
	for _, event := range events {
		list = append(list, pbxapi.Registration{Event: event, URL: urlOf(newToken), Method: "POST"})
	}
	return list
}

// situation is a random state of one extension.
type situation struct {
	current, desired []pbxapi.Registration
	limit            int
}

func situations() *rapid.Generator[situation] {
	events := append(slices.Clone(registration.Priority), "")
	registrations := rapid.Custom(func(t *rapid.T) pbxapi.Registration {
		return pbxapi.Registration{
			Event: rapid.SampledFrom(events).Draw(t, "event"),
			URL: rapid.SampledFrom([]string{
				urlOf(newToken), urlOf(oldToken), urlOf(foreignToken), eventurl.URL("https://old.example.com/pbx", newToken, ""),
				"https://crm.example.com/hook?id=7", "no url at all %zz",
			}).Draw(t, "url"),
			Method:   rapid.SampledFrom([]string{"POST", "POST", "POST", "GET"}).Draw(t, "method"),
			Disabled: rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "disabled"),
		}
	})
	return rapid.Custom(func(t *rapid.T) situation {
		s := situation{
			current: rapid.SliceOfN(registrations, 0, 18).Draw(t, "current"),
			desired: desiredOf(rapid.SliceOfDistinct(rapid.SampledFrom(registration.Priority), rapid.ID).Draw(t, "events")...),
			limit:   rapid.IntRange(1, 18).Draw(t, "limit"),
		}
		for i := range s.current {
			s.current[i].ID = strconv.Itoa(i + 1)
		}
		return s
	})
}

// perform does what a PBX does with the steps.
func perform(t *rapid.T, current []pbxapi.Registration, steps []registration.Step, each func([]pbxapi.Registration)) []pbxapi.Registration {
	list := slices.Clone(current)
	for i, step := range steps {
		switch step.Operation {
		case registration.Create:
			step.Registration.ID = strconv.Itoa(1000 + i)
			list = append(list, step.Registration)
		case registration.Update, registration.Delete:
			at := slices.IndexFunc(list, func(r pbxapi.Registration) bool { return r.ID == step.Registration.ID })
			if at < 0 {
				t.Fatalf("%ss registration %s, which is not there", step.Operation, step.Registration.ID)
			}
			if step.Operation == registration.Delete {
				list = slices.Delete(list, at, at+1)
				break
			}
			if list[at].Event != step.Registration.Event {
				t.Fatalf("turns a registration for %s into one for %s", list[at].Event, step.Registration.Event)
			}
			list[at] = step.Registration
		}
		each(list)
	}
	return list
}

func foreign(list []pbxapi.Registration) []pbxapi.Registration {
	return slices.DeleteFunc(slices.Clone(list), own.Own)
}

func ours(list []pbxapi.Registration) []pbxapi.Registration {
	return slices.DeleteFunc(slices.Clone(list), func(r pbxapi.Registration) bool { return !own.Own(r) })
}

func TestPlanLeadsToExactlyTheDesiredRegistrations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		p := registration.Decide(s.current, s.desired, own, s.limit)
		end := perform(t, s.current, p.Steps, func([]pbxapi.Registration) {})

		want := slices.DeleteFunc(slices.Clone(s.desired), func(r pbxapi.Registration) bool { return slices.Contains(p.Blocked, r.Event) })
		diff := cmp.Diff(want, ours(end), cmpopts.IgnoreFields(pbxapi.Registration{}, "ID"),
			cmpopts.SortSlices(func(a, b pbxapi.Registration) bool { return a.Event < b.Event }), cmpopts.EquateEmpty())
		if diff != "" {
			t.Fatalf("ours at the end (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(foreign(s.current), foreign(end)); diff != "" {
			t.Fatalf("registrations of others (-before +after):\n%s", diff)
		}
		if len(p.Blocked) > 0 && len(end) < s.limit {
			t.Fatalf("blocked %v although only %d of %d places are used", p.Blocked, len(end), s.limit)
		}
	})
}

func TestPlanIsDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		p := registration.Decide(s.current, s.desired, own, s.limit)
		end := perform(t, s.current, p.Steps, func([]pbxapi.Registration) {})
		again := registration.Decide(end, s.desired, own, s.limit)
		if len(again.Steps) > 0 {
			t.Fatalf("a second plan has steps: %+v", again.Steps)
		}
		if diff := cmp.Diff(p.Blocked, again.Blocked, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("blocked (-first +second):\n%s", diff)
		}
	})
}

func TestPlanKeepsTheLimitAtEveryStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		most := max(len(s.current), s.limit)
		perform(t, s.current, registration.Decide(s.current, s.desired, own, s.limit).Steps, func(list []pbxapi.Registration) {
			if len(list) > most {
				t.Fatalf("%d registrations on the way, %d are allowed", len(list), most)
			}
		})
	})
}

func TestPlanLosesNoEventWhileThereIsRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		s.limit = len(s.current) + rapid.IntRange(1, 4).Draw(t, "room")
		heard := func(list []pbxapi.Registration, event v1alpha1.EventType) bool {
			return slices.ContainsFunc(ours(list), func(r pbxapi.Registration) bool { return r.Event == event && !r.Disabled })
		}
		perform(t, s.current, registration.Decide(s.current, s.desired, own, s.limit).Steps, func(list []pbxapi.Registration) {
			for _, d := range s.desired {
				if heard(s.current, d.Event) && !heard(list, d.Event) {
					t.Fatalf("nobody listens to %s for a while", d.Event)
				}
			}
		})
	})
}

func TestPlanCreatesOnlyWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situations().Draw(t, "situation")
		for _, step := range registration.Decide(s.current, s.desired, own, s.limit).Steps {
			present := slices.ContainsFunc(s.current, func(r pbxapi.Registration) bool {
				return r.Event == step.Registration.Event && r.URL == step.Registration.URL
			})
			if step.Operation == registration.Create && present {
				t.Fatalf("creates %s, which is there", step.Registration.Event)
			}
		}
	})
}

func TestPlanPrefersHangup(t *testing.T) {
	var current []pbxapi.Registration
	for i := range 14 {
		current = append(current, pbxapi.Registration{ID: strconv.Itoa(i), Event: v1alpha1.EventHangup, URL: urlOf(foreignToken), Method: "GET"})
	}
	p := registration.Decide(current, desiredOf(v1alpha1.EventDialIn, v1alpha1.EventDialOut, v1alpha1.EventAnswer, v1alpha1.EventHangup), own, 16)
	var created []v1alpha1.EventType
	for _, step := range p.Steps {
		created = append(created, step.Registration.Event)
	}
	if diff := cmp.Diff([]v1alpha1.EventType{v1alpha1.EventHangup, v1alpha1.EventAnswer}, created); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]v1alpha1.EventType{v1alpha1.EventDialIn, v1alpha1.EventDialOut}, p.Blocked); diff != "" {
		t.Errorf("blocked (-want +got):\n%s", diff)
	}
}

func TestPlanMovesToANewKeyInAFullExtension(t *testing.T) {
	var current []pbxapi.Registration
	for i, event := range registration.Priority {
		current = append(current, pbxapi.Registration{ID: strconv.Itoa(i + 1), Event: event, URL: urlOf(oldToken), Method: "POST"})
	}
	p := registration.Decide(current, desiredOf(registration.Priority...), own, len(current))
	most := 0
	for i := range p.Steps { // at any time at most one event has no registration
		balance := 0
		for _, step := range p.Steps[:i+1] {
			if step.Operation == registration.Delete {
				balance++
			} else {
				balance--
			}
		}
		most = max(most, balance)
	}
	if want := 2 * len(registration.Priority); len(p.Steps) != want || most != 1 || len(p.Blocked) > 0 {
		t.Errorf("%d steps with one gap at a time expected, got %d with %d, blocked %v", want, len(p.Steps), most, p.Blocked)
	}
}

func TestPlanUpdatesWhatIsDisabledOrHasAnotherMethod(t *testing.T) {
	hangup, dialIn := desiredOf(v1alpha1.EventHangup)[0], desiredOf(v1alpha1.EventDialIn)[0]
	disabled, byGet := hangup, dialIn
	disabled.ID, disabled.Disabled = "7", true
	byGet.ID, byGet.Method = "8", "GET"
	stranger := pbxapi.Registration{ID: "9", Event: v1alpha1.EventHangup, URL: urlOf(foreignToken), Method: "GET", Disabled: true}
	p := registration.Decide([]pbxapi.Registration{stranger, byGet, disabled}, []pbxapi.Registration{dialIn, hangup}, own, 3)
	hangup.ID, dialIn.ID = "7", "8"
	want := registration.Plan{Steps: []registration.Step{
		{Operation: registration.Update, Registration: hangup}, {Operation: registration.Update, Registration: dialIn},
	}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("an extension without a free place (-want +got):\n%s", diff)
	}
}

func TestPlanKeepsTheEnabledOneOfTwo(t *testing.T) {
	hangup := desiredOf(v1alpha1.EventHangup)[0]
	disabled, enabled := hangup, hangup
	disabled.ID, disabled.Disabled, enabled.ID = "1", true, "2"
	p := registration.Decide([]pbxapi.Registration{disabled, enabled}, []pbxapi.Registration{hangup}, own, 16)
	want := registration.Plan{Steps: []registration.Step{{Operation: registration.Delete, Registration: disabled}}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An early VoipNow refuses the answers: by then everything else must have been done.
func TestPlanLeavesTheAnswersOfVoipNowToTheEnd(t *testing.T) {
	old := pbxapi.Registration{ID: "1", Event: v1alpha1.EventHangup, URL: urlOf(oldToken), Method: "POST"}
	surplus := pbxapi.Registration{ID: "2", Event: v1alpha1.EventDialOut, URL: urlOf(newToken), Method: "POST"}
	desired := desiredOf(pbxapi.EventAnswerIn, pbxapi.EventAnswerOut, v1alpha1.EventDialIn, v1alpha1.EventHangup)
	var got []string
	for _, step := range registration.Decide([]pbxapi.Registration{old, surplus}, desired, own, 1<<20).Steps {
		got = append(got, string(step.Operation)+" "+string(step.Registration.Event))
	}
	want := []string{"create Hangup", "delete Hangup", "delete DialOut", "create DialIn", "create AnswerIn", "create AnswerOut"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
