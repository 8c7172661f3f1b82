package v1alpha1_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const integration = `
apiVersion: pbx-operator.io/v1alpha1
kind: PBXIntegration
metadata: {name: head-office}
spec:
  pbx:
    type: RingMe
    ringMe: {url: "https://pbx.example.com", credentialsSecretRef: {name: head-office-pbx}}
  receiver: {publicURL: "https://calls.example.com"}
`

const mapping = `
apiVersion: pbx-operator.io/v1alpha1
kind: ExtensionMapping
metadata: {name: ann}
spec:
  integrationRef: {name: head-office}
  extension: {number: "1234*101"}
  user: {name: ann}
`

const voipNow = `
apiVersion: pbx-operator.io/v1alpha1
kind: PBXIntegration
metadata: {name: branch}
spec:
  pbx:
    type: VoipNow
    voipNow: {url: "https://voipnow.example.com", credentialsSecretRef: {name: branch-pbx}}
  receiver: {publicURL: "https://calls.example.com"}
`

const callable = `
apiVersion: pbx-operator.io/v1alpha1
kind: PBXIntegration
metadata: {name: hotline}
spec:
  pbx: {type: Callable}
  receiver: {publicURL: "https://calls.example.com"}
`

const linuxBox = `
apiVersion: pbx-operator.io/v1alpha1
kind: PBXIntegration
metadata: {name: workshop}
spec:
  pbx: {type: LinuxBox}
  receiver: {publicURL: "https://calls.example.com"}
`

const command = `
apiVersion: pbx-operator.io/v1alpha1
kind: CallCommand
metadata: {name: call-back}
spec:
  integrationRef: {name: head-office}
  dial: {extension: "1234*101", number: "+12025550143"}
`

const leg = `
apiVersion: pbx-operator.io/v1alpha1
kind: CallLeg
metadata: {name: head-office-abc, labels: {pbx-operator.io/integration: head-office}}
status: {callID: c1, legID: l1, kind: Extension, direction: Inbound, phase: Ringing, logged: false, revision: 1}
`

// A creation is one object that differs from a good one by a merge patch.
type creation struct {
	base, patch string
	// refusal is what the API server says of it; empty where it accepts the object.
	refusal string
}

var creations = map[string]creation{
	"a minimal integration":                    {base: integration, patch: `{}`},
	"an integration without type":              {integration, `{"spec":{"pbx":{"type":null}}}`, "spec.pbx.type: Required value"},
	"an unknown type":                          {integration, `{"spec":{"pbx":{"type":"Rotary"}}}`, `Unsupported value: "Rotary"`},
	"a type without its member":                {integration, `{"spec":{"pbx":{"ringMe":null}}}`, "set ringMe if, and only if, type is RingMe"},
	"a PBX over plain HTTP":                    {base: integration, patch: `{"spec":{"pbx":{"ringMe":{"url":"http://pbx.example.com:8080"}}}}`},
	"a PBX without scheme":                     {integration, `{"spec":{"pbx":{"ringMe":{"url":"pbx.example.com"}}}}`, "url must be an http or https URL with a host"},
	"a PBX over another protocol":              {integration, `{"spec":{"pbx":{"ringMe":{"url":"ftp://pbx.example.com"}}}}`, "url must be an http or https URL with a host"},
	"no credentials":                           {integration, `{"spec":{"pbx":{"ringMe":{"credentialsSecretRef":null}}}}`, "credentialsSecretRef: Required value"},
	"a numeric account":                        {base: integration, patch: `{"spec":{"pbx":{"ringMe":{"accountID":"4711"}}}}`},
	"an account that is no id":                 {integration, `{"spec":{"pbx":{"ringMe":{"accountID":"me"}}}}`, "spec.pbx.ringMe.accountID"},
	"a PBX with a CA of its own":               {base: integration, patch: `{"spec":{"pbx":{"tls":{"caBundle":{"kind":"ConfigMap","name":"pbx-ca"}}}}}`},
	"a CA in a Secret under another key":       {base: linuxBox, patch: `{"spec":{"pbx":{"tls":{"caBundle":{"kind":"Secret","name":"pbx-ca","key":"chain.pem"}}}}}`},
	"a CA in a Pod":                            {integration, `{"spec":{"pbx":{"tls":{"caBundle":{"kind":"Pod","name":"pbx-ca"}}}}}`, `Unsupported value: "Pod"`},
	"a CA under a path":                        {integration, `{"spec":{"pbx":{"tls":{"caBundle":{"kind":"Secret","name":"pbx-ca","key":"../ca"}}}}}`, "spec.pbx.tls.caBundle.key"},
	"TLS that says nothing":                    {integration, `{"spec":{"pbx":{"tls":{}}}}`, "spec.pbx.tls.caBundle: Required value"},
	"TLS to a Callable":                        {callable, `{"spec":{"pbx":{"tls":{"caBundle":{"kind":"Secret","name":"pbx-ca"}}}}}`, "a Callable has no API to connect to"},
	"a journal with a CA of its own":           {base: integration, patch: `{"spec":{"receiver":{"journal":{"nats":{"url":"tls://nats.example.com","tls":{"caBundle":{"kind":"Secret","name":"nats-ca"}}}}}}}`},
	"a pinned receiver":                        {base: integration, patch: `{"spec":{"receiver":{"image":"registry.example.com/receiver@sha256:4711"}}}`},
	"a receiver image with a space":            {integration, `{"spec":{"receiver":{"image":"receiver latest"}}}`, "spec.receiver.image"},
	"a volume that stays":                      {base: integration, patch: `{"spec":{"receiver":{"storage":{"retain":true}}}}`},
	"an ephemeral log that stays":              {integration, `{"spec":{"receiver":{"storage":{"ephemeral":true,"retain":true}}}}`, "ephemeral storage cannot be retained"},
	"masked numbers":                           {base: integration, patch: `{"spec":{"callLegs":{"maskNumbers":true}}}`},
	"an event limit of none":                   {integration, `{"spec":{"pbx":{"ringMe":{"eventLimit":0}}}}`, "should be greater than or equal to 1"},
	"no requests at all":                       {integration, `{"spec":{"pbx":{"ringMe":{"requestsPerMinute":0}}}}`, "should be greater than or equal to 1"},
	"a public URL with port and path":          {base: integration, patch: `{"spec":{"receiver":{"publicURL":"http://calls.example.com:8080/pbx"}}}`},
	"no public URL":                            {integration, `{"spec":{"receiver":{"publicURL":null}}}`, "publicURL: Required value"},
	"a public URL without host":                {integration, `{"spec":{"receiver":{"publicURL":"https:///pbx"}}}`, "publicURL must be an http or https URL"},
	"a public URL with a query":                {integration, `{"spec":{"receiver":{"publicURL":"https://calls.example.com/?a=b"}}}`, "publicURL must be an http or https URL with a host and without query or fragment"},
	"a public URL with a fragment":             {integration, `{"spec":{"receiver":{"publicURL":"https://calls.example.com/#a"}}}`, "publicURL must be an http or https URL"},
	"three replicas":                           {base: integration, patch: `{"spec":{"receiver":{"replicas":3}}}`},
	"five replicas":                            {base: integration, patch: `{"spec":{"receiver":{"replicas":5}}}`},
	"two replicas with the embedded journal":   {integration, `{"spec":{"receiver":{"replicas":2}}}`, "replicas must be 1, 3 or 5 with the embedded journal"},
	"a journal with a client certificate":      {base: integration, patch: `{"spec":{"receiver":{"journal":{"nats":{"url":"tls://nats.example.com","replicas":5,"sync":"Always","tls":{"clientCertificateSecretRef":{"name":"nats-client"}}}}}}}`},
	"autoscaling of an embedded journal":       {integration, `{"spec":{"receiver":{"autoscaling":{"maxReplicas":4}}}}`, "autoscaling needs journal.nats"},
	"autoscaling from more to less":            {integration, `{"spec":{"receiver":{"journal":{"nats":{"url":"tls://nats.example.com"}},"autoscaling":{"minReplicas":5,"maxReplicas":4}}}}`, "minReplicas must not exceed maxReplicas"},
	"TLS to a journal that says nothing":       {integration, `{"spec":{"receiver":{"journal":{"nats":{"url":"tls://nats.example.com","tls":{}}}}}}`, "set caBundle, clientCertificateSecretRef, or both"},
	"two replicas of the logs":                 {integration, `{"spec":{"receiver":{"journal":{"nats":{"url":"tls://nats.example.com","replicas":2}}}}}`, "spec.receiver.journal.nats.replicas: Unsupported value"},
	"two replicas with an external journal":    {base: integration, patch: `{"spec":{"receiver":{"replicas":2,"journal":{"nats":{"url":"nats://nats.example.com:4222"}}}}}`},
	"a journal over HTTP":                      {integration, `{"spec":{"receiver":{"journal":{"nats":{"url":"http://nats.example.com"}}}}}`, "spec.receiver.journal.nats.url"},
	"a volume of a class":                      {base: integration, patch: `{"spec":{"receiver":{"storage":{"size":"64Mi","storageClassName":"fast"}}}}`},
	"a volume in plain bytes":                  {base: integration, patch: `{"spec":{"receiver":{"storage":{"size":1073741824}}}}`},
	"a volume too small to hold a log":         {integration, `{"spec":{"receiver":{"storage":{"size":"63Mi"}}}}`, "size must be at least 64Mi"},
	"an ephemeral log":                         {base: integration, patch: `{"spec":{"receiver":{"storage":{"ephemeral":true}}}}`},
	"an ephemeral log of a class":              {integration, `{"spec":{"receiver":{"storage":{"ephemeral":true,"storageClassName":"fast"}}}}`, "ephemeral storage has no storageClassName"},
	"a gateway":                                {base: integration, patch: `{"spec":{"receiver":{"exposure":{"gateway":{"parentRefs":[{"name":"public"}]}}}}}`},
	"a gateway without parents":                {integration, `{"spec":{"receiver":{"exposure":{"gateway":{"parentRefs":[]}}}}}`, "parentRefs"},
	"an ingress":                               {base: integration, patch: `{"spec":{"receiver":{"exposure":{"ingress":{"className":"nginx","tls":{"secretName":"calls-tls"},"annotations":{"example.com/proxy":"on"}}}}}}`},
	"a gateway with annotations":               {base: integration, patch: `{"spec":{"receiver":{"exposure":{"gateway":{"parentRefs":[{"name":"public"}],"annotations":{"example.com/timeout":"5s"}}}}}}`},
	"a gateway and an ingress":                 {integration, `{"spec":{"receiver":{"exposure":{"gateway":{"parentRefs":[{"name":"public"}]},"ingress":{}}}}}`, "set at most one of gateway and ingress"},
	"allowed networks of both families":        {base: integration, patch: `{"spec":{"receiver":{"allowedSources":["198.51.100.0/24","2001:db8::/32"]}}}`},
	"an allowed address without mask":          {integration, `{"spec":{"receiver":{"allowedSources":["198.51.100.7"]}}}`, "must be a network in CIDR notation, such as 198.51.100.0/24"},
	"pods with requests and a toleration":      {base: integration, patch: `{"spec":{"receiver":{"template":{"resources":{"requests":{"memory":"64Mi"}},"tolerations":[{"key":"edge","operator":"Exists"}]}}}}`},
	"a scope nobody knows":                     {integration, `{"spec":{"callLegs":{"scope":"Internal"}}}`, `Unsupported value: "Internal"`},
	"a moment of publication nobody knows":     {integration, `{"spec":{"callLegs":{"publish":"Never"}}}`, `Unsupported value: "Never"`},
	"legs that go at once":                     {base: integration, patch: `{"spec":{"callLegs":{"ttlAfterFinished":"0s"}}}`},
	"legs that stay a week":                    {base: integration, patch: `{"spec":{"callLegs":{"ttlAfterFinished":"168h"}}}`},
	"legs that stay longer":                    {integration, `{"spec":{"callLegs":{"ttlAfterFinished":"168h1s"}}}`, "ttlAfterFinished must be between 0s and 168h"},
	"a negative time to live":                  {integration, `{"spec":{"callLegs":{"ttlAfterFinished":"-1s"}}}`, "ttlAfterFinished must be between 0s and 168h"},
	"a time to live without unit":              {integration, `{"spec":{"callLegs":{"ttlAfterFinished":"60"}}}`, "ttlAfterFinished"},
	"no grace period":                          {base: integration, patch: `{"spec":{"callLegs":{"missedGracePeriod":"0s"}}}`},
	"a grace period beyond five minutes":       {integration, `{"spec":{"callLegs":{"missedGracePeriod":"5m1s"}}}`, "missedGracePeriod must be between 0s and 5m"},
	"calls of two days":                        {base: integration, patch: `{"spec":{"callLegs":{"maxDuration":"48h"}}}`},
	"calls that may not last":                  {integration, `{"spec":{"callLegs":{"maxDuration":"0s"}}}`, "maxDuration must be between 1s and 48h"},
	"no objects at all":                        {integration, `{"spec":{"callLegs":{"maxObjects":0}}}`, "should be greater than or equal to 1"},
	"more objects than a cluster bears":        {integration, `{"spec":{"callLegs":{"maxObjects":10001}}}`, "should be less than or equal to 10000"},
	"a deletion policy nobody knows":           {integration, `{"spec":{"deletionPolicy":"Keep"}}`, `Unsupported value: "Keep"`},
	"an integration with a name of 40":         {base: integration, patch: `{"metadata":{"name":"a234567890123456789012345678901234567890"}}`},
	"an integration with a longer name":        {integration, `{"metadata":{"name":"a2345678901234567890123456789012345678901"}}`, "the name must not be longer than 40 characters"},
	"account-wide registration":                {base: integration, patch: `{"spec":{"pbx":{"ringMe":{"registration":"Account","queueAgents":"Ignore"}}}}`},
	"a minimal VoipNow":                        {base: voipNow, patch: `{}`},
	"a VoipNow without its member":             {voipNow, `{"spec":{"pbx":{"voipNow":null}}}`, "set voipNow if, and only if, type is VoipNow"},
	"a VoipNow with the member of another":     {voipNow, `{"spec":{"pbx":{"callable":{}}}}`, "set callable only if type is Callable"},
	"a VoipNow with that of a third":           {voipNow, `{"spec":{"pbx":{"linuxBox":{}}}}`, "set linuxBox only if type is LinuxBox"},
	"a VoipNow without scheme":                 {voipNow, `{"spec":{"pbx":{"voipNow":{"url":"voipnow.example.com"}}}}`, "url must be an http or https URL with a host"},
	"a VoipNow user that is no id":             {voipNow, `{"spec":{"pbx":{"voipNow":{"userID":"@self"}}}}`, "spec.pbx.voipNow.userID"},
	"a VoipNow by Prague's clocks":             {base: voipNow, patch: `{"spec":{"pbx":{"voipNow":{"timeZone":"Europe/Prague"}}}}`},
	"a VoipNow by an offset":                   {voipNow, `{"spec":{"pbx":{"voipNow":{"timeZone":"+01:00"}}}}`, "spec.pbx.voipNow.timeZone"},
	"a minimal Callable":                       {base: callable, patch: `{}`},
	"a Callable with numbers":                  {base: callable, patch: `{"spec":{"pbx":{"callable":{"ownNumbers":["+4420794609*","442079460900"],"ownDomains":["tenant.example.com"]}}}}`},
	"a Callable with a name for a number":      {callable, `{"spec":{"pbx":{"callable":{"ownNumbers":["front desk"]}}}}`, "spec.pbx.callable.ownNumbers"},
	"a minimal LinuxBox":                       {base: linuxBox, patch: `{}`},
	"a LinuxBox of its own kind":               {base: linuxBox, patch: `{"spec":{"pbx":{"linuxBox":{"dialect":"Path","events":{"zvoni":"LineRinging"},"parameters":{"linka":"Line"},"lines":["10"],"recordingURL":"https://rec.example.com/{record_name}.wav","database":{"credentialsSecretRef":{"name":"db"}}}}}}`},
	"a LinuxBox by clocks of far away":         {base: linuxBox, patch: `{"spec":{"pbx":{"linuxBox":{"database":{"credentialsSecretRef":{"name":"db"},"timeZone":"America/Argentina/Buenos_Aires"}}}}}`},
	"a LinuxBox by clocks of nowhere":          {linuxBox, `{"spec":{"pbx":{"linuxBox":{"database":{"credentialsSecretRef":{"name":"db"},"timeZone":"Prague time"}}}}}`, "spec.pbx.linuxBox.database.timeZone"},
	"a LinuxBox event that means nothing":      {linuxBox, `{"spec":{"pbx":{"linuxBox":{"events":{"zvoni":"Rings"}}}}}`, "an event must mean Dial,"},
	"a LinuxBox parameter that means nothing":  {linuxBox, `{"spec":{"pbx":{"linuxBox":{"parameters":{"linka":"Number"}}}}}`, "a parameter must mean CallID,"},
	"a LinuxBox over another protocol":         {linuxBox, `{"spec":{"pbx":{"linuxBox":{"url":"ftp://pbx.example.com"}}}}`, "url must be an http or https URL with a host"},
	"LinuxBox credentials for nothing":         {linuxBox, `{"spec":{"pbx":{"linuxBox":{"credentialsSecretRef":{"name":"box"}}}}}`, "credentialsSecretRef is for url, which is not set"},
	"recordings that are all the same":         {linuxBox, `{"spec":{"pbx":{"linuxBox":{"recordingURL":"https://rec.example.com/"}}}}`, "recordingURL must contain {record_name}"},
	"discovery of everything":                  {base: voipNow, patch: `{"spec":{"discovery":{"types":["Phone","IVR","Queue"],"numbers":["0007\\*1*"]}}}`},
	"discovery on a PBX that does not tell":    {callable, `{"spec":{"discovery":{}}}`, "discovery is for RingMe and VoipNow"},
	"discovery by half a class":                {voipNow, `{"spec":{"discovery":{"numbers":["[0-9"]}}}`, "spec.discovery.numbers"},
	"discovery of nothing":                     {voipNow, `{"spec":{"discovery":{"types":[]}}}`, "should have at least 1 items"},
	"discovery all the time":                   {voipNow, `{"spec":{"discovery":{"interval":"1s"}}}`, "interval must be between 30s and 24h"},
	"extensions that never vanish":             {voipNow, `{"spec":{"discovery":{"gracePeriod":"169h"}}}`, "gracePeriod must be between 0s and 168h"},
	"backfill of long ago":                     {integration, `{"spec":{"backfill":{"after":"25h"}}}`, "after must be between 0s and 24h"},
	"no backfill":                              {base: integration, patch: `{"spec":{"backfill":{"mode":"Disabled"}}}`},
	"a command to dial":                        {base: command, patch: `{}`},
	"a command to hang up":                     {base: command, patch: `{"spec":{"dial":null,"hangup":{"extension":"1234*101"}}}`},
	"a command to find a recording":            {base: command, patch: `{"spec":{"dial":null,"recording":{"legRef":{"name":"head-office-abc"}}}}`},
	"a command that says nothing":              {command, `{"spec":{"dial":null}}`, "set exactly one of dial, hangup and recording"},
	"a command that says two things":           {command, `{"spec":{"hangup":{"extension":"1234*101"}}}`, "set exactly one of dial, hangup and recording"},
	"a hangup of nobody":                       {command, `{"spec":{"dial":null,"hangup":{}}}`, "set exactly one of extension and legRef"},
	"a command that stays longer":              {command, `{"spec":{"ttlAfterFinished":"169h"}}`, "ttlAfterFinished must be between 0s and 168h"},
	"a number with spaces":                     {command, `{"spec":{"dial":{"number":"202 555 0143"}}}`, "spec.dial.number"},
	"a minimal mapping":                        {base: mapping, patch: `{}`},
	"a phone without user":                     {mapping, `{"spec":{"user":null}}`, "a Phone needs a user; IVR and Queue do not"},
	"a queue without user":                     {base: mapping, patch: `{"spec":{"user":null,"extension":{"type":"Queue"}}}`},
	"a voice menu without user":                {base: mapping, patch: `{"spec":{"user":null,"extension":{"type":"IVR"}}}`},
	"an extension type nobody knows":           {mapping, `{"spec":{"extension":{"type":"Fax"}}}`, `Unsupported value: "Fax"`},
	"an extension without number":              {mapping, `{"spec":{"extension":{"number":null}}}`, "number: Required value"},
	"an extension with a domain":               {mapping, `{"spec":{"extension":{"number":"1234*101@example.com"}}}`, "spec.extension.number"},
	"a mapping without integration":            {mapping, `{"spec":{"integrationRef":null}}`, "integrationRef: Required value"},
	"a user with a mail address":               {base: mapping, patch: `{"spec":{"user":{"name":"ann@example.com"}}}`},
	"a user name with a space":                 {mapping, `{"spec":{"user":{"name":"Ann Novak"}}}`, "spec.user.name"},
	"an event nobody knows":                    {mapping, `{"spec":{"events":["Voicemail"]}}`, `Unsupported value: "Voicemail"`},
	"no events at all":                         {mapping, `{"spec":{"events":[]}}`, "should have at least 1 items"},
	"the same event twice":                     {mapping, `{"spec":{"events":["Hangup","Hangup"]}}`, "Duplicate value"},
	"a minimal leg":                            {base: leg, patch: `{}`},
	"a leg without status":                     {leg, `{"status":null}`, "status: Required value"},
	"a leg without phase":                      {leg, `{"status":{"phase":null}}`, "status.phase: Required value"},
	"a leg without revision":                   {leg, `{"status":{"revision":null}}`, "status.revision: Required value"},
	"a leg with a result nobody knows":         {leg, `{"status":{"result":"ANSWER"}}`, `Unsupported value: "ANSWER"`},
	"a finished leg":                           {base: leg, patch: `{"status":{"phase":"Completed","result":"Answered","talkTime":"11.4s","startTime":"2026-01-02T10:00:00.000000Z","events":[{"type":"DialIn","time":"2026-01-02T10:00:00.123456Z"}]}}`},
	"a talk time that is no number of seconds": {leg, `{"status":{"talkTime":"1m0s"}}`, "status.talkTime"},
	"a talk time of nothing":                   {base: leg, patch: `{"status":{"talkTime":"0s"}}`},
	"a leg with attributes":                    {base: leg, patch: `{"status":{"integration":"head-office","attributes":{"tag.campaign":"spring","X-Empty":""}}}`},
	"an attribute without a name":              {leg, `{"status":{"attributes":{"":"spring"}}}`, "a key of attributes must have 1 to 63 characters"},
	"an attribute with a long name":            {leg, `{"status":{"attributes":{"` + strings.Repeat("k", 64) + `":"v"}}}`, "a key of attributes must have 1 to 63 characters"},
	"an attribute with a long value":           {leg, `{"status":{"attributes":{"k":"` + strings.Repeat("v", 257) + `"}}}`, "Too long"},
	"more attributes than 16":                  {leg, `{"status":{"attributes":{` + attributes(17) + `}}}`, "must have at most 16 items"},
}

// A change is an edit of an object that exists.
type change struct {
	base, before, after string
	refusal             string
}

var changes = map[string]change{
	"new credentials":              {base: integration, after: `{"spec":{"pbx":{"ringMe":{"credentialsSecretRef":{"name":"other"}}}}}`},
	"a new public URL":             {base: integration, after: `{"spec":{"receiver":{"publicURL":"https://other.example.com"}}}`},
	"suspension":                   {base: integration, after: `{"spec":{"suspend":true}}`},
	"another PBX":                  {base: integration, after: `{"spec":{"pbx":{"ringMe":{"url":"https://other.example.com"}}}}`, refusal: "url is immutable; registrations on the old PBX would be left behind"},
	"another account":              {base: integration, after: `{"spec":{"pbx":{"ringMe":{"accountID":"4711"}}}}`, refusal: "accountID is immutable; registrations in the old account would be left behind"},
	"the account spelled out":      {base: integration, after: `{"spec":{"pbx":{"ringMe":{"accountID":"@me"}}}}`},
	"another make of PBX":          {base: callable, after: `{"spec":{"pbx":{"type":"LinuxBox"}}}`, refusal: "type is immutable; create a new PBXIntegration for another system"},
	"another VoipNow":              {base: voipNow, after: `{"spec":{"pbx":{"voipNow":{"url":"https://other.example.com"}}}}`, refusal: "url is immutable; registrations on the old PBX would be left behind"},
	"another VoipNow user":         {base: voipNow, after: `{"spec":{"pbx":{"voipNow":{"userID":"4711"}}}}`, refusal: "userID is immutable; registrations of the old user would be left behind"},
	"another number to dial":       {base: command, after: `{"spec":{"dial":{"number":"+12025550144"}}}`, refusal: "a command is immutable; create another one"},
	"a bigger volume":              {base: integration, after: `{"spec":{"receiver":{"storage":{"size":"2Gi"}}}}`},
	"the same volume, other unit":  {base: integration, after: `{"spec":{"receiver":{"storage":{"size":"1024Mi"}}}}`},
	"a volume that is to stay":     {base: integration, after: `{"spec":{"receiver":{"storage":{"retain":true}}}}`},
	"a smaller volume":             {base: integration, after: `{"spec":{"receiver":{"storage":{"size":"512Mi"}}}}`, refusal: "size may only grow"},
	"a class for the volume":       {base: integration, after: `{"spec":{"receiver":{"storage":{"storageClassName":"fast"}}}}`, refusal: "storageClassName is immutable"},
	"another class":                {base: integration, before: `{"spec":{"receiver":{"storage":{"storageClassName":"fast"}}}}`, after: `{"spec":{"receiver":{"storage":{"storageClassName":"slow"}}}}`, refusal: "storageClassName is immutable; the events in the old volume would be left behind"},
	"no class any more":            {base: integration, before: `{"spec":{"receiver":{"storage":{"storageClassName":"fast"}}}}`, after: `{"spec":{"receiver":{"storage":{"storageClassName":null}}}}`, refusal: "storageClassName is immutable"},
	"from volume to ephemeral":     {base: integration, after: `{"spec":{"receiver":{"storage":{"ephemeral":true}}}}`, refusal: "ephemeral is immutable; the events in the old volume would be left behind"},
	"from one replica to three":    {base: integration, after: `{"spec":{"receiver":{"replicas":3}}}`},
	"from three replicas to one":   {base: integration, before: `{"spec":{"receiver":{"replicas":3}}}`, after: `{"spec":{"receiver":{"replicas":1}}}`},
	"from five replicas to three":  {base: integration, before: `{"spec":{"receiver":{"replicas":5}}}`, after: `{"spec":{"receiver":{"replicas":3}}}`, refusal: "an embedded journal of five replicas cannot go on with fewer"},
	"from three replicas to five":  {base: integration, before: `{"spec":{"receiver":{"replicas":3}}}`, after: `{"spec":{"receiver":{"replicas":5}}}`},
	"more with an external log":    {base: integration, before: `{"spec":{"receiver":{"journal":{"nats":{"url":"nats://nats.example.com"}}}}}`, after: `{"spec":{"receiver":{"replicas":4}}}`},
	"another number":               {base: mapping, after: `{"spec":{"extension":{"number":"1234*102"}}}`},
	"another user":                 {base: mapping, after: `{"spec":{"user":{"name":"ben"}}}`},
	"another integration":          {base: mapping, after: `{"spec":{"integrationRef":{"name":"branch"}}}`, refusal: "integrationRef is immutable; delete the mapping and create it anew"},
	"a phone that loses its user":  {base: mapping, after: `{"spec":{"user":null}}`, refusal: "a Phone needs a user"},
	"a leg that is answered":       {base: leg, after: `{"status":{"phase":"Answered","revision":2}}`},
	"a leg back to an older state": {base: leg, after: `{"status":{"revision":-1}}`, refusal: "should be greater than or equal to 0"},
}

// attributes are so many members of a JSON object.
func attributes(count int) string {
	members := make([]string, count)
	for i := range members {
		members[i] = fmt.Sprintf("\"k%d\":\"v\"", i)
	}
	return strings.Join(members, ",")
}

var _ = Describe("Validation", func() {
	for name, tc := range creations {
		It(verdict(tc.refusal)+" "+name, func(ctx context.Context) {
			object := manifest(tc.base)
			object.Object = patched(object.Object, tc.patch)
			err := kube.Create(ctx, object)
			DeferCleanup(func(ctx context.Context) {
				Expect(client.IgnoreNotFound(kube.Delete(ctx, object))).To(Succeed())
			})
			expectVerdict(err, tc.refusal)
		})
	}
})

var _ = Describe("Changes", func() {
	for name, tc := range changes {
		It(verdict(tc.refusal)+" "+name, func(ctx context.Context) {
			object := manifest(tc.base)
			if tc.before != "" {
				object.Object = patched(object.Object, tc.before)
			}
			create(ctx, object)
			expectVerdict(kube.Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(tc.after))), tc.refusal)
		})
	}
})

var _ = Describe("The table of refusals", func() {
	It("breaks every rule of every schema once", func() {
		for _, rule := range rules() {
			Expect(broken(rule.Message)).To(BeTrue(), "no case is refused with %q", rule.Message)
		}
	})
})

func verdict(refusal string) string {
	if refusal == "" {
		return "accepts"
	}
	return "refuses"
}

func expectVerdict(err error, refusal string) {
	GinkgoHelper()
	if refusal == "" {
		Expect(err).NotTo(HaveOccurred())
		return
	}
	Expect(err).To(MatchError(apierrors.IsInvalid, "IsInvalid"))
	Expect(err).To(MatchError(ContainSubstring(refusal)))
}

func broken(message string) bool {
	said := func(refusal string) bool { return refusal != "" && strings.HasPrefix(message, refusal) }
	for _, tc := range creations {
		if said(tc.refusal) {
			return true
		}
	}
	for _, tc := range changes {
		if said(tc.refusal) {
			return true
		}
	}
	return false
}

// rules are all CEL rules of the generated schemas.
func rules() apiextensionsv1.ValidationRules {
	GinkgoHelper()
	files, err := filepath.Glob("../../config/crd/bases/*.yaml")
	Expect(err).NotTo(HaveOccurred())
	Expect(files).NotTo(BeEmpty())
	var found apiextensionsv1.ValidationRules
	for _, file := range files {
		text, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		var definition apiextensionsv1.CustomResourceDefinition
		Expect(yaml.Unmarshal(text, &definition)).To(Succeed())
		found = append(found, rulesOf(*definition.Spec.Versions[0].Schema.OpenAPIV3Schema)...)
	}
	return found
}

func rulesOf(schema apiextensionsv1.JSONSchemaProps) apiextensionsv1.ValidationRules {
	found := schema.XValidations
	for _, property := range schema.Properties {
		found = append(found, rulesOf(property)...)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		found = append(found, rulesOf(*schema.Items.Schema)...)
	}
	return found
}

// patched applies a JSON merge patch (RFC 7396).
func patched(object map[string]any, patch string) map[string]any {
	GinkgoHelper()
	var edit map[string]any
	Expect(yaml.Unmarshal([]byte(patch), &edit)).To(Succeed())
	return merged(object, edit)
}

func merged(object, edit map[string]any) map[string]any {
	for key, value := range edit {
		member, isMap := value.(map[string]any)
		switch {
		case value == nil:
			delete(object, key)
		case isMap:
			inner, _ := object[key].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
			}
			object[key] = merged(inner, member)
		default:
			object[key] = value
		}
	}
	return object
}
