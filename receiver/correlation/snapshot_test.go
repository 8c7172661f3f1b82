package correlation

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
)

// fill sets everything that can be set.
func fill(v reflect.Value, random *rand.Rand) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(rune('a'+random.IntN(26))) + string(rune('a'+random.IntN(26))))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1 + random.Int64N(1000))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), random)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, random)
		fill(value, random)
		v.SetMapIndex(key, value)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), random)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_767_348_000+random.Int64N(1000), 0).UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), random)
			}
		}
	default:
	}
}

// Whatever a call keeps of an event comes back from a snapshot that was stored.
func TestSnapshotKeepsAllThatACallKeeps(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var e callevent.Event
		fill(reflect.ValueOf(&e).Elem(), random)
		e.Type = callevent.Hangup
		want := Call{}
		if !want.Add(e) {
			t.Fatal("the event does not join its call")
		}
		repeated := e
		repeated.Received = e.Received.Add(e.Repeat / 2)
		want.Add(repeated)
		want.Add(callevent.Event{ID: "tick", Type: callevent.GraceOver, CallID: e.CallID, Time: e.Time, Received: e.Time})
		text, err := json.Marshal(want.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		var stored Snapshot
		if err := json.Unmarshal(text, &stored); err != nil {
			t.Fatal(err)
		}
		got := Restore(stored)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Call{}, event{}, identity{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if got.Size() < 200 || got.Len() != want.Len() {
			t.Errorf("size %d, %d events", got.Size(), got.Len())
		}
	}
}
