package pbxapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// fake is a PBX that counts what it is asked, and answers every call with err.
type fake struct {
	turn func(context.Context) error

	mu         sync.Mutex
	asked      int
	err        error
	extensions []pbxapi.Extension
	delay      time.Duration
}

func (f *fake) do(ctx context.Context) error {
	if err := f.turn(ctx); err != nil {
		return err
	}
	time.Sleep(f.delay)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.err
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fake) answer(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) Check(ctx context.Context) error { return f.do(ctx) }
func (f *fake) Extensions(ctx context.Context) ([]pbxapi.Extension, error) {
	return f.extensions, f.do(ctx)
}
func (f *fake) Registrations(ctx context.Context, _ string) ([]pbxapi.Registration, error) {
	return nil, f.do(ctx)
}
func (f *fake) Register(ctx context.Context, _ string, r pbxapi.Registration) (pbxapi.Registration, error) {
	return r, f.do(ctx)
}
func (f *fake) Update(ctx context.Context, _ string, _ pbxapi.Registration) error { return f.do(ctx) }

func (f *fake) Unregister(ctx context.Context, _, _ string) error { return f.do(ctx) }

// poolOf makes a pool whose clients all ask the same PBX.
func poolOf(f *fake) *pbxapi.Pool {
	factory := func(settings pbxapi.Settings) (pbxapi.API, error) {
		f.turn = settings.Turn
		return f, nil
	}
	return pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: factory}, pbxapi.Options{})
}

func integration(uid types.UID, perMinute int32) *v1alpha1.PBXIntegration {
	return &v1alpha1.PBXIntegration{
		ObjectMeta: metav1.ObjectMeta{UID: uid},
		Spec: v1alpha1.PBXIntegrationSpec{PBX: v1alpha1.PBX{
			Type: v1alpha1.PBXTypeRingMe, RingMe: &v1alpha1.RingMe{URL: "https://pbx.example.com", RequestsPerMinute: perMinute},
		}},
	}
}

func clientOf(t *testing.T, pool *pbxapi.Pool, i *v1alpha1.PBXIntegration, secret string) *pbxapi.Client {
	t.Helper()
	client, err := pool.Client(i, map[string][]byte{"clientSecret": []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestOneClientPerIntegration(t *testing.T) {
	pool := poolOf(&fake{})
	first := clientOf(t, pool, integration("a", 60), "x")
	if clientOf(t, pool, integration("a", 60), "x") != first {
		t.Error("the same settings gave another client")
	}
	if clientOf(t, pool, integration("b", 60), "x") == first {
		t.Error("two integrations share a client")
	}
	if clientOf(t, pool, integration("a", 60), "y") == first {
		t.Error("other credentials gave the same client")
	}
	if clientOf(t, pool, integration("a", 61), "y") == clientOf(t, pool, integration("a", 60), "y") {
		t.Error("another rate gave the same client")
	}
	pool.Forget("a")
	if clientOf(t, pool, integration("a", 60), "x") == first {
		t.Error("a forgotten client came back")
	}
}

func TestUnknownKindOfPBX(t *testing.T) {
	pool := pbxapi.NewPool(nil, pbxapi.Options{})
	if _, err := pool.Client(integration("a", 60), nil); !errors.Is(err, pbxapi.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestBadCredentialStallsTheIntegration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{err: pbxapi.NewError(pbxapi.ErrUnauthorized, "check", "HTTP 401")}
		pool := poolOf(pbx)
		client := clientOf(t, pool, integration("a", 600), "wrong")
		for range 1000 {
			if err := client.Check(t.Context()); !errors.Is(err, pbxapi.ErrUnauthorized) {
				t.Fatalf("got %v, want ErrUnauthorized", err)
			}
			if _, err := client.Admit(t.Context(), 5); !errors.Is(err, pbxapi.ErrUnauthorized) {
				t.Fatalf("admitted: %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := pbx.count(); n != 4 {
			t.Errorf("asked %d times in 1000 s, want 4", n)
		}
		pbx.answer(nil)
		if err := clientOf(t, pool, integration("a", 600), "right").Check(t.Context()); err != nil {
			t.Errorf("new credentials are not tried at once: %v", err)
		}
	})
}

func TestSilentPBXIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{err: pbxapi.NewError(pbxapi.ErrUnreachable, "check", "no answer in time"), delay: 10 * time.Second}
		client := clientOf(t, poolOf(pbx), integration("a", 6000), "x")
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				for range 10 {
					_ = client.Check(t.Context())
					time.Sleep(time.Second)
				}
			})
		}
		group.Wait()
		if n := pbx.count(); n > 105 {
			t.Errorf("a silent PBX was asked %d times by 100 callers", n)
		}
		pbx.answer(nil)
		time.Sleep(time.Minute)
		for range 2 {
			if err := client.Check(t.Context()); err != nil {
				t.Errorf("still failing after it came back: %v", err)
			}
		}
	})
}

// In no minute more requests than allowed, and nearly as many as allowed.
func TestRequestsPerMinute(t *testing.T) {
	for _, perMinute := range []int32{20, 60, 120, 6000} {
		t.Run(fmt.Sprint(perMinute), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pbx := &fake{}
				client := clientOf(t, poolOf(pbx), integration("a", perMinute), "x")
				time.Sleep(time.Hour) // all of the burst is there
				last, least := 0, int32(0)
				for minute := range 5 {
					for end := time.Now().Add(time.Minute - time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
						for client.Check(t.Context()) == nil && time.Now().Before(end) {
						}
					}
					n := pbx.count() - last
					last += n
					if n > int(perMinute)+1 {
						t.Errorf("%d requests in minute %d, %d are allowed", n, minute, perMinute)
					}
					least = int32(n)
				}
				if least < perMinute/2-1 {
					t.Errorf("only %d requests in the last minute, %d are allowed", least, perMinute)
				}
			})
		})
	}
}

func TestNobodyWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := clientOf(t, poolOf(&fake{}), integration("a", 60), "x")
		refused := map[time.Duration]bool{}
		for range 100 {
			start := time.Now()
			_, err := client.Admit(t.Context(), 5)
			if waited := time.Since(start); waited > time.Second {
				t.Fatalf("waited for %s", waited)
			}
			if limited, ok := errors.AsType[*pbxapi.RateLimitedError](err); ok {
				if limited.ByPBX || limited.After <= 0 || limited.After > 5*time.Minute {
					t.Fatalf("told to come back in %s", limited.After)
				}
				refused[limited.After.Round(time.Second)] = true
			}
		}
		if len(refused) < 30 {
			t.Errorf("the refused were told to come back at only %d different times", len(refused))
		}
	})
}

func TestAnAdmittedPassIsNotCutShort(t *testing.T) {
	for _, perMinute := range []int32{1, 6, 60, 120} {
		synctest.Test(t, func(t *testing.T) {
			client := clientOf(t, poolOf(&fake{}), integration("a", perMinute), "x")
			for range 20 {
				ctx, err := client.Admit(t.Context(), 5)
				for limited := (*pbxapi.RateLimitedError)(nil); errors.As(err, &limited); {
					time.Sleep(limited.After)
					ctx, err = client.Admit(t.Context(), 5)
				}
				for range 5 {
					start := time.Now()
					if err := client.Check(ctx); err != nil || time.Since(start) > 0 {
						t.Fatalf("%d per minute: %v after %s", perMinute, err, time.Since(start))
					}
				}
			}
		})
	}
}

// Routine checks of more extensions than the rate allows leave room for a pass that needs several
// requests.
func TestRoutineLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{}
		client := clientOf(t, poolOf(pbx), integration("a", 120), "x")
		routine := 0
		for range 60 * 60 {
			for range 20 {
				if ctx, err := client.AdmitRoutine(t.Context(), 1); err == nil && client.Check(ctx) == nil {
					routine++
				}
			}
			time.Sleep(time.Second)
			start := time.Now()
			if start.Second() == 30 {
				if _, err := client.Admit(t.Context(), 5); err != nil || time.Since(start) > time.Second {
					t.Fatalf("urgent work has to wait: %v after %s", err, time.Since(start))
				}
			}
		}
		if routine < 60*60 {
			t.Errorf("only %d routine checks in an hour", routine)
		}
	})
}

func TestTooManyRequestsSilencesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{}
		client := clientOf(t, poolOf(pbx), integration("a", 6000), "x")
		admitted, err := client.Admit(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		pbx.answer(&pbxapi.RateLimitedError{After: 1000 * time.Second, ByPBX: true})
		_ = client.Check(t.Context())
		pbx.answer(nil)
		for _, ctx := range []context.Context{t.Context(), admitted} {
			limited, ok := errors.AsType[*pbxapi.RateLimitedError](client.Check(ctx))
			if !ok || limited.After != 1000*time.Second || !limited.ByPBX {
				t.Errorf("got %+v, want a wait of 1000 s", limited)
			}
		}
		if n := pbx.count(); n != 1 {
			t.Errorf("asked %d times, want 1", n)
		}
		time.Sleep(1001 * time.Second)
		if err := client.Check(t.Context()); err != nil {
			t.Errorf("still silent after the reset: %v", err)
		}
	})
}

func TestExtensionsAreListedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{extensions: []pbxapi.Extension{{ID: "5101", Number: "1234*101"}}, delay: 100 * time.Millisecond}
		client := clientOf(t, poolOf(pbx), integration("a", 60), "x")
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if found, err := client.Extension(t.Context(), "1234*101"); err != nil || found.ID != "5101" {
					t.Errorf("got %+v, %v", found, err)
				}
			})
		}
		group.Wait()
		if n := pbx.count(); n != 1 {
			t.Errorf("%d lists for 1000 lookups", n)
		}
		for range 60 {
			_, err := client.Extension(t.Context(), "1234*999")
			if !errors.Is(err, pbxapi.ErrNotFound) {
				t.Fatalf("got %v, want ErrNotFound", err)
			}
			time.Sleep(time.Second)
		}
		if n := pbx.count(); n > 4 {
			t.Errorf("%d lists while an unknown number was looked up every second for a minute", n)
		}
		pbx.extensions = append(pbx.extensions, pbxapi.Extension{ID: "5102", Number: "1234*999"})
		time.Sleep(31 * time.Second)
		if _, err := client.Extension(t.Context(), "1234*999"); err != nil {
			t.Errorf("a new extension is not seen: %v", err)
		}
	})
}

// paged is a fake whose list of extensions takes many requests.
type paged struct {
	*fake
	pages int
}

func (p paged) Extensions(ctx context.Context) ([]pbxapi.Extension, error) {
	for range p.pages {
		if err := p.do(ctx); err != nil {
			return nil, err
		}
	}
	return p.extensions, nil
}

func TestALongListAtALowRateComesToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := paged{fake: &fake{extensions: []pbxapi.Extension{{ID: "5101", Number: "1234*101"}}}, pages: 50}
		factory := func(settings pbxapi.Settings) (pbxapi.API, error) {
			pbx.turn = settings.Turn
			return pbx, nil
		}
		pool := pbxapi.NewPool(map[v1alpha1.PBXType]pbxapi.Factory{v1alpha1.PBXTypeRingMe: factory}, pbxapi.Options{})
		client := clientOf(t, pool, integration("a", 10), "x")
		for start := time.Now(); ; time.Sleep(10 * time.Second) {
			if _, err := client.Extension(t.Context(), "1234*101"); err == nil {
				return
			}
			if time.Since(start) > 30*time.Minute {
				t.Fatalf("50 pages at 10 requests a minute are not read after half an hour; %d requests were made", pbx.count())
			}
		}
	})
}

func TestLongListHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{extensions: []pbxapi.Extension{{ID: "5101", Number: "1234*101"}}, delay: 20 * time.Second}
		client := clientOf(t, poolOf(pbx), integration("a", 60), "x")
		start := time.Now()
		_, err := client.Extension(t.Context(), "1234*101")
		if _, ok := errors.AsType[*pbxapi.RateLimitedError](err); !ok || time.Since(start) > time.Second {
			t.Errorf("got %v after %s, want to be sent away within a second", err, time.Since(start))
		}
		time.Sleep(30 * time.Second)
		if _, err := client.Extension(t.Context(), "1234*101"); err != nil {
			t.Error(err)
		}
		if n := pbx.count(); n != 1 {
			t.Errorf("%d lists, want 1", n)
		}
	})
}

func TestHintForANumberWithoutPrefix(t *testing.T) {
	pbx := &fake{extensions: []pbxapi.Extension{{ID: "5101", Number: "1234*101"}}}
	client := clientOf(t, poolOf(pbx), integration("a", 60), "x")
	if _, err := client.Extension(t.Context(), "101"); err == nil || !strings.Contains(err.Error(), "did you mean 1234*101?") {
		t.Errorf("no help in: %v", err)
	}
	if !client.HasExtension("5101") || client.HasExtension("101") || client.HasExtension("") {
		t.Error("HasExtension knows the wrong ids")
	}
}

func TestScrub(t *testing.T) {
	tests := map[string]string{
		"plain text stays":                   "plain text stays",
		"rate_limit_exceeded":                "rate_limit_exceeded",
		"Get \"https://pbx/x?token=1\": EOF": "Get \"(URL) EOF",
		"two\nlines\tand a tab":              "two lines and a tab",
		"f2a8vdrfae0s1ku5d2rj3iximjf3twyz!":  "(…)!",
		strings.Repeat("ab ", 100):           strings.Repeat("ab ", 66) + "ab…",
	}
	for in, want := range tests {
		if got := pbxapi.Scrub(in); got != want {
			t.Errorf("Scrub(%q) = %q, want %q", in, got, want)
		}
	}
}

// A PBX that is unavailable says how long, and that concerns all requests; whether it carried out
// the one is not known.
func TestUnavailablePBXIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{err: &pbxapi.Error{Kind: pbxapi.ErrUnreachable, Op: "check", After: 40 * time.Second}}
		client := clientOf(t, poolOf(pbx), integration("a", 600), "x")
		if err := client.Check(t.Context()); !errors.Is(err, pbxapi.ErrUnreachable) || pbxapi.NotSent(err) {
			t.Fatalf("got %v", err)
		}
		pbx.answer(nil)
		limited, ok := errors.AsType[*pbxapi.RateLimitedError](client.Check(t.Context()))
		if !ok || limited.After != 40*time.Second || !limited.ByPBX {
			t.Errorf("got %v, want to wait for 40 s", limited)
		}
		time.Sleep(40 * time.Second)
		if err := client.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if n := pbx.count(); n != 2 {
			t.Errorf("the PBX was asked %d times", n)
		}
	})
}

// Whichever request finds out first that a PBX is away, what is told of it is the same.
func TestTroubleReadsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{err: pbxapi.NewError(pbxapi.ErrUnreachable, "check", "connection refused")}
		client := clientOf(t, poolOf(pbx), integration("a", 600), "x")
		for range 6 {
			if got, want := pbxapi.Trouble(client.Check(t.Context())).Error(), "the PBX cannot be reached: connection refused"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			time.Sleep(time.Second)
		}
	})
	other := pbxapi.NewError(pbxapi.ErrRejected, "register", "no")
	if got := pbxapi.Trouble(other); got.Error() != other.Error() || pbxapi.Trouble(nil) != nil {
		t.Error("what was tried is left out of a refusal")
	}
}
