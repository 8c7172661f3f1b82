package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbx-operator/pbx-operator/receiver/backoff"
)

var (
	errTrouble = errors.New("trouble")
	pauses     = backoff.Pauses{First: 100 * time.Millisecond, Max: time.Second}
)

func TestRetryWaitsLongerEachTimeUpToTheLongestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []time.Duration
		attempts := 0
		err := backoff.Retry(t.Context(), pauses, func(context.Context) error {
			if attempts++; attempts == 8 {
				return nil
			}
			return errTrouble
		}, func(_ error, pause time.Duration) { told = append(told, pause) })
		if err != nil || attempts != 8 {
			t.Fatalf("got %v after %d attempts, want success at the eighth", err, attempts)
		}
		for i, milliseconds := range []int{100, 200, 400, 800, 1000, 1000, 1000} {
			least := time.Duration(milliseconds) * time.Millisecond
			if told[i] < least || told[i] > least*3/2 {
				t.Errorf("pause %d is %s, want about %s", i, told[i], least)
			}
		}
	})
}

func TestRetryEndsWithItsContextAndSaysWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := backoff.Retry(ctx, pauses, func(context.Context) error { return errTrouble }, nil)
		if !errors.Is(err, errTrouble) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want both the trouble and the end of the context", err)
		}
	})
}

func TestSharedHoldsEverybodyBackUntilTheServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, start := backoff.NewShared(pauses), time.Now()
		if !shared.Failed(3*time.Second) || shared.Failed(0) {
			t.Fatal("only the first of several failures at a time may begin the wait")
		}
		if err := shared.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %s, want the 3 s that the server asked for", waited)
		}
		if !shared.Succeeded() || shared.Succeeded() {
			t.Error("the end of the trouble is to be told once")
		}
	})
}
