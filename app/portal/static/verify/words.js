// What a report says beside its figures, word for word as app/protocol/figures.py and flags.py write it, for a report is compared
// byte by byte. tests/portal/test_verify.py fails if one of them is changed alone.

export const SAYS = {
  CONFIRMED: "Between the times of its first and its last query the endpoint answered the committed inputs in agreement with labels that public randomness drew after the commitment, to a degree that an endpoint independent of those labels shows with probability at most 2^-bits.",
  INDICATIVE: "The endpoint answered at least nine in ten of the inputs with labels that the claimant chose before registering them. Labels that a claimant chooses can be made to fit endpoints it never saw, so this is no proof.",
  NOT_SUPPORTED: "The answers do not support the claim. This does not say that the endpoint is innocent.",
  NON_COOPERATIVE: "The endpoint treated the committed inputs otherwise than the same inputs with their tiles shuffled: it was silent, or wavered, on them alone, to a degree that chance shows less than once in 2^20.",
  INCONCLUSIVE: "The dispute ended without evidence for either side; the reason says why.",
  VOID: "A check of the evidence failed, so nothing can be concluded from it; the reason says which.",
};

export const ASSUMES = [
  "nobody planted inputs with these labels in the endpoint's training data or feedback",
  "the service wrote the answers down truly: TLS gives no proof that can be passed on, only a second querier helps",
];

export const DOES_NOT_SAY = [
  "theft",
  "intent",
  "absence of a licence",
  "that weights were copied rather than distilled",
  "who runs the address",
  "innocence, where the claim is not supported",
];

export const FLAGS_SAY = {
  accuracy: "How often covers got the class that the claimant committed to before the labels were drawn. The claimant chose inputs and classes, so a low rate may be the covers' fault as well as the endpoint's.",
  silence: "How often a first question got no label. Flagged if triggers or look-alikes were left unanswered more often than covers: something in front may refuse odd pictures, and an honest endpoint may do so to both alike.",
  wavering: "How often a question asked twice got two answers. Flagged if triggers or look-alikes wavered more often than covers.",
  second_egress: "The same where the second asking left from another address of the service: an endpoint that knows who asks may answer each address otherwise.",
  one_answer: "How often the most frequent answer to look-alikes was given to look-alikes and to covers. Flagged if look-alikes got it more often: odd pictures may be answered by rule. Many honest networks favour a class for them, too.",
  elsewhere: "How many answers came from an address, and how many under a certificate, that was not seen while the interface was derived.",
};
