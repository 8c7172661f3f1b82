package retention_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("Retention", func() {
	It("deletes what expired while no manager ran, and nothing else", func(ctx context.Context) {
		ns := namespace(ctx)
		leg(ctx, ns, "last-week", "20251226T1200")
		leg(ctx, ns, "minute-over", "20260102T1159")
		leg(ctx, ns, "this-minute", "20260102T1200")
		leg(ctx, ns, "later", "20260102T1300")
		leg(ctx, ns, "live", "")
		leg(ctx, ns, "odd", "tomorrow")
		s := begin(false)
		Eventually(left(ctx, ns)).Should(ConsistOf("this-minute", "later", "live", "odd"))
		Eventually(s.deleted).Should(BeEquivalentTo(2))
	})

	It("deletes a leg within half a minute of its time, and never early", func(ctx context.Context) {
		ns := namespace(ctx)
		leg(ctx, ns, "leg", "20260102T1201")
		s := begin(false)
		s.pass(30 * time.Second) // 12:01:00
		s.pass(45 * time.Second) // 12:01:45
		Consistently(left(ctx, ns)).WithTimeout(500 * time.Millisecond).Should(ConsistOf("leg"))
		s.pass(15 * time.Second) // 12:02:00
		Eventually(left(ctx, ns)).Should(BeEmpty())
	})

	It("deletes by one request per minute of expiry and namespace", func(ctx context.Context) {
		first, second := namespace(ctx), namespace(ctx)
		for i := range 30 {
			leg(ctx, first, fmt.Sprint("a", i), "20260102T1100")
			leg(ctx, first, fmt.Sprint("b", i), "20260102T1101")
			leg(ctx, second, fmt.Sprint("a", i), "20260102T1100")
		}
		s := begin(false)
		Eventually(left(ctx, first)).Should(BeEmpty())
		Eventually(left(ctx, second)).Should(BeEmpty())
		Expect(s.made("deletecollection")).To(Equal(3))
		Expect(s.made("delete")).To(BeZero())
		Eventually(s.deleted).Should(BeEquivalentTo(90))
	})

	It("finds more legs than one page holds", func(ctx context.Context) {
		ns := namespace(ctx)
		for i := range 501 {
			leg(ctx, ns, fmt.Sprintf("leg-%03d", i), fmt.Sprintf("20260101T%02d00", i/25))
		}
		s := begin(false)
		Eventually(left(ctx, ns)).Should(BeEmpty())
		Eventually(s.deleted).Should(BeEquivalentTo(501))
	})

	It("makes one small request when nothing has expired", func(ctx context.Context) {
		ns := namespace(ctx)
		leg(ctx, ns, "later", "20260109T1200")
		s := begin(false)
		for range 10 {
			s.pass(15 * time.Second)
		}
		Expect(s.made("list")).To(Equal(11))
		Expect(s.made("deletecollection")).To(BeZero())
	})

	It("looks at everything again once in a while, for legs that were late to get their label", func(ctx context.Context) {
		ns := namespace(ctx)
		s := begin(false)
		leg(ctx, ns, "late", "20260102T0900")
		for range 40 {
			s.pass(15 * time.Second)
		}
		Eventually(left(ctx, ns)).Should(BeEmpty())
	})

	It("needs no rights beyond the namespaces that it was given, and one that it may not look into keeps no other", func(ctx context.Context) {
		theirs, forbidden, others := namespace(ctx), namespace(ctx), namespace(ctx)
		for _, ns := range []string{theirs, forbidden, others} {
			leg(ctx, ns, "old", "20260102T0900")
		}
		beginAs(limited(ctx, theirs), false, forbidden, theirs)
		Eventually(left(ctx, theirs)).Should(BeEmpty())
		Expect(left(ctx, forbidden)()).To(ConsistOf("old"))
		Expect(left(ctx, others)()).To(ConsistOf("old"))
	})

	It("catches up once the API server answers again", func(ctx context.Context) {
		ns := namespace(ctx)
		leg(ctx, ns, "old", "20260102T0900")
		s := begin(true)
		s.pass(15 * time.Second)
		Expect(left(ctx, ns)()).To(ConsistOf("old"))
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		s.pass(15 * time.Second)
		Eventually(left(ctx, ns)).Should(BeEmpty())
	})
})
