package pbxapi_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pbx-operator/pbx-operator/controllers/pbxapi"
)

// A request without an answer may have been carried out; one that is not even made, because others
// got no answer, cannot.
func TestRequestOfAPauseIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pbx := &fake{err: pbxapi.NewError(pbxapi.ErrUnreachable, "check", "no answer in time")}
		client := clientOf(t, poolOf(pbx), integration("a", 600), "x")
		for range 6 {
			before := pbx.count()
			err := client.Check(t.Context())
			if !errors.Is(err, pbxapi.ErrUnreachable) {
				t.Fatalf("got %v, want ErrUnreachable", err)
			}
			if sent := pbx.count() > before; pbxapi.NotSent(err) == sent {
				t.Errorf("sent: %v, but NotSent says %v", sent, pbxapi.NotSent(err))
			}
			time.Sleep(time.Second)
		}
		if n := pbx.count(); n == 6 {
			t.Error("there was no pause")
		}
	})
}
