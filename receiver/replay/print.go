package replay

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"k8s.io/utils/ptr"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
	"github.com/pbx-operator/pbx-operator/receiver/publish"
)

func (o options) print(w io.Writer, legs []correlation.Leg) error {
	objects := make([]*v1alpha1.CallLeg, 0, len(legs))
	for _, leg := range legs {
		objects = append(objects, publish.Object(o.namespace, o.integration, leg))
	}
	if o.format == "table" {
		return table(w, objects)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(objects)
}

// table prints what kubectl get callleg shows, with the start in place of the age.
func table(w io.Writer, legs []*v1alpha1.CallLeg) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	_, _ = fmt.Fprintln(t, "START\tDIRECTION\tFROM\tTO\tUSER\tPHASE\tRESULT\tTALK\tLOGGED") // Flush reports the error
	for _, leg := range legs {
		s := leg.Status
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%t\n", s.StartTime.Format(time.DateTime), s.Direction, shown(s.From),
			shown(s.To), shown(s.User), s.Phase, shown(string(s.Result)), shown(ptr.Deref(s.TalkTime, "")), s.Logged)
	}
	return t.Flush()
}

func shown(text string) string { return cmp.Or(text, "-") }
