/* The control step of controller.py in C: MuJoCo's stages, the reference's solver polish, the controller, the gripper.

   No header of Python or MuJoCo is needed: native.py hands over addresses. Sums keep the order of controller.py, which
   is the order of the reference; compile with -ffp-contract=off, or the last bits go. Matrices are column-major unless
   a comment says rows. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define SUBSTEPS_GOAL 1 /* the action becomes a goal in the first of the 25 substeps */
#define CONVERGED 1e-13 /* scaled gradient of the constraint solver; rounding alone leaves 1e-17 to 1e-15 */
#define DOFS 1024
#define WORK 4096

enum { ROW_MAJOR = 101, COLUMN_MAJOR = 102, PLAIN = 111, TURNED = 112 };

typedef void stage_fn(const void *model, void *data);

/* Field for field the Structure of native.py. */
typedef struct {
  const void *model;
  void *data;

  stage_fn *check_pos, *check_vel, *fwd_position, *fwd_velocity, *fwd_actuation, *fwd_acceleration, *fwd_constraint,
      *check_acc, *euler;
  void (*jac_site)(const void *model, const void *data, double *jac_pos, double *jac_rot, int site);

  void (*gemm)(int order, int turn_a, int turn_b, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
               int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
  void (*gemv)(int order, int turn, int64_t m, int64_t n, double alpha, const double *a, int64_t lda, const double *x,
               int64_t step_x, double beta, double *y, int64_t step_y);
  void (*getrf)(const int64_t *m, const int64_t *n, double *a, const int64_t *lda, int64_t *pivots, int64_t *info);
  void (*getri)(const int64_t *n, double *a, const int64_t *lda, const int64_t *pivots, double *work,
                const int64_t *length, int64_t *info);
  void (*gesdd)(const char *job, const int64_t *m, const int64_t *n, double *a, const int64_t *lda, double *s, double *u,
                const int64_t *ldu, double *vt, const int64_t *ldvt, double *work, const int64_t *length,
                int64_t *integers, int64_t *info, int64_t job_length);

  /* mjData */
  double *qpos, *qvel, *ctrl, *warmstart, *mass_sparse, *bias, *site_pos, *site_mat, *joint_axis, *joint_anchor;
  const int32_t *solver_iterations;
  const double *solver_gradient; /* of the first iteration */

  /* Arm */
  double *goal_pos, *goal_mat, *gripper, *pos, *mat, *velocity, *spin, *q, *qd, *jac_pos, *jac_rot, *jac, *mass;
  double *wide_pos, *wide_rot; /* rows, 3 x nv */
  const double *limits, *rest;
  const int32_t *mass_index;
  int32_t *stale;

  int64_t nv;
  int32_t site;
  int32_t polish; /* extra constraint solves per substep (0 or 2): MuJoCo before 3.3.6 keeps what each one finds */
  int32_t fast;   /* Cholesky factors and 7 columns instead of LAPACK and nv: rounding differs */
} Step;

static double clip(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* --- the robot as the last position and velocity stage left it ------------------------------------------------- */

static void read_velocity_fast(Step *s) {
  for (int i = 0; i < 3; i++) {
    double v = 0, w = 0;
    for (int j = 0; j < 7; j++) v += s->jac_pos[3 * j + i] * s->qvel[j], w += s->jac_rot[3 * j + i] * s->qvel[j];
    s->velocity[i] = v, s->spin[i] = w;
  }
}

static void jacobian_fast(Step *s) {
  for (int j = 0; j < 7; j++) {
    const double *axis = s->joint_axis + 3 * j, *anchor = s->joint_anchor + 3 * j;
    double r[3] = {s->pos[0] - anchor[0], s->pos[1] - anchor[1], s->pos[2] - anchor[2]};
    double *p = s->jac_pos + 3 * j;
    p[0] = axis[1] * r[2] - axis[2] * r[1];
    p[1] = axis[2] * r[0] - axis[0] * r[2];
    p[2] = axis[0] * r[1] - axis[1] * r[0];
    memcpy(s->jac_rot + 3 * j, axis, 3 * sizeof(double));
  }
}

static void jacobian(Step *s) {
  s->jac_site(s->model, s->data, s->wide_pos, s->wide_rot, s->site);
  for (int j = 0; j < 7; j++)
    for (int i = 0; i < 3; i++) {
      s->jac_pos[3 * j + i] = s->wide_pos[i * s->nv + j];
      s->jac_rot[3 * j + i] = s->wide_rot[i * s->nv + j];
    }
}

static void read_robot(Step *s) {
  memcpy(s->pos, s->site_pos + 3 * s->site, 3 * sizeof(double));
  memcpy(s->mat, s->site_mat + 9 * s->site, 9 * sizeof(double));
  memcpy(s->q, s->qpos, 7 * sizeof(double));
  memcpy(s->qd, s->qvel, 7 * sizeof(double));
  if (s->fast) {
    jacobian_fast(s);
    read_velocity_fast(s);
  } else {
    jacobian(s);
    s->gemv(ROW_MAJOR, PLAIN, 3, s->nv, 1, s->wide_pos, s->nv, s->qvel, 1, 0, s->velocity, 1);
    s->gemv(ROW_MAJOR, PLAIN, 3, s->nv, 1, s->wide_rot, s->nv, s->qvel, 1, 0, s->spin, 1);
  }
  for (int j = 0; j < 7; j++) {
    memcpy(s->jac + 6 * j, s->jac_pos + 3 * j, 3 * sizeof(double));
    memcpy(s->jac + 6 * j + 3, s->jac_rot + 3 * j, 3 * sizeof(double));
  }
  for (int i = 0; i < 49; i++) s->mass[i] = s->mass_sparse[s->mass_index[i]];
}

/* --- goal ------------------------------------------------------------------------------------------------------ */

/* Rotation vector -> matrix (rows) through a single-precision quaternion w, x, y, z. */
static void turn_matrix(const double turn[3], double out[9]) {
  double angle = sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2]), half = angle / 2;
  float q[4] = {(float)cos(half)};
  double sine = sin(half), norm = 0;
  for (int i = 0; i < 3; i++) q[i + 1] = (float)(turn[i] / angle * sine);
  for (int i = 0; i < 4; i++) norm += (double)(float)(q[i] * q[i]); /* products short, sum long */
  double scale = sqrt(2.0 / (double)(float)norm);
  float f[4][4];
  for (int i = 0; i < 4; i++) q[i] = (float)(q[i] * scale);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) f[i][j] = q[i] * q[j];
  out[0] = 1.0 - f[2][2] - f[3][3], out[1] = f[1][2] - f[3][0], out[2] = f[1][3] + f[2][0];
  out[3] = f[1][2] + f[3][0], out[4] = 1.0 - f[1][1] - f[3][3], out[5] = f[2][3] - f[1][0];
  out[6] = f[1][3] - f[2][0], out[7] = f[2][3] + f[1][0], out[8] = 1.0 - f[1][1] - f[2][2];
}

static void set_goal(Step *s, const double *action) {
  double turn[3];
  for (int i = 0; i < 3; i++) {
    s->goal_pos[i] = s->pos[i] + clip(action[i], -1, 1) * 0.05;
    turn[i] = clip(action[i + 3], -1, 1) * 0.5;
  }
  if (turn[0] != 0 || turn[1] != 0 || turn[2] != 0) {
    double by[9];
    turn_matrix(turn, by);
    if (s->fast)
      for (int i = 0; i < 9; i++) {
        const double *row = by + i / 3 * 3, *column = s->mat + i % 3;
        s->goal_mat[i] = row[0] * column[0] + row[1] * column[3] + row[2] * column[6];
      }
    else
      s->gemm(ROW_MAJOR, PLAIN, PLAIN, 3, 3, 3, 1, by, 3, s->mat, 3, 0, s->goal_mat, 3);
  }
}

/* --- torques --------------------------------------------------------------------------------------------------- */

static const double KP = 150, NULL_KP = 10;

/* What position and orientation ask for at the hand, before its inertia, and the pull of the rest pose. */
static void wishes(const Step *s, double force[3], double torque[3], double home[7]) {
  const double *a = s->mat, *b = s->goal_mat, kd = 2 * sqrt(KP), null_kd = sqrt(NULL_KP) * 2;
  for (int i = 0; i < 3; i++) {
    int j = (i + 1) % 3 * 3, k = (i + 2) % 3 * 3;
    double first = a[j] * b[k] - a[k] * b[j], second = a[j + 1] * b[k + 1] - a[k + 1] * b[j + 1],
           third = a[j + 2] * b[k + 2] - a[k + 2] * b[j + 2];
    force[i] = KP * (s->goal_pos[i] - s->pos[i]) - kd * s->velocity[i];
    torque[i] = KP * (0.5 * (first + second + third)) - kd * s->spin[i];
  }
  for (int i = 0; i < 7; i++) home[i] = NULL_KP * (s->rest[i] - s->q[i]) - null_kd * s->qd[i];
}

/* V (1/s) U^T of the n x n matrix `a` (rows); `out` is column-major. */
static void pseudo_inverse(Step *s, int64_t n, const double *a, double *out) {
  double copy[36], sigma[6], u[36], vt[36], scaled[36], turned[36], work[WORK];
  int64_t integers[64], info, length = WORK;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) copy[j * n + i] = a[i * n + j];
  s->gesdd("S", &n, &n, copy, &n, sigma, u, &n, vt, &n, work, &length, integers, &info, 1);
  for (int64_t i = 0; i < n; i++) {
    double factor = sigma[i] > 1e-15 * sigma[0] ? 1.0 / sigma[i] : 0.0;
    for (int64_t j = 0; j < n; j++) scaled[i * n + j] = vt[j * n + i] * factor, turned[i * n + j] = u[j * n + i];
  }
  s->gemm(ROW_MAJOR, TURNED, TURNED, n, n, n, 1, scaled, n, turned, n, 0, copy, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) out[j * n + i] = copy[i * n + j];
}

/* (J M^-1 J^T)^-1 for a Jacobian of `rows` rows. */
static void seen_inertia(Step *s, int64_t rows, const double *jac, const double *inverse, double *out) {
  double half[42], whole[36]; /* rows */
  s->gemm(ROW_MAJOR, TURNED, TURNED, rows, 7, 7, 1, jac, rows, inverse, 7, 0, half, 7);
  s->gemm(ROW_MAJOR, PLAIN, PLAIN, rows, rows, 7, 1, half, 7, jac, rows, 0, whole, rows);
  pseudo_inverse(s, rows, whole, out);
}

static void torques(Step *s, double tau[7]) {
  double force[3], torque[3], home[7], inverse[49], full[36], part[9], wrench[6], work[WORK];
  double a[42], b[42], null[49], pull[7], homing[7]; /* rows */
  int64_t seven = 7, pivots[8], info, length = WORK;
  wishes(s, force, torque, home);
  memcpy(inverse, s->mass, sizeof inverse);
  s->getrf(&seven, &seven, inverse, &seven, pivots, &info);
  s->getri(&seven, inverse, &seven, pivots, work, &length, &info);
  seen_inertia(s, 6, s->jac, inverse, full);
  seen_inertia(s, 3, s->jac_pos, inverse, part);
  s->gemv(COLUMN_MAJOR, PLAIN, 3, 3, 1, part, 3, force, 1, 0, wrench, 1);
  seen_inertia(s, 3, s->jac_rot, inverse, part);
  s->gemv(COLUMN_MAJOR, PLAIN, 3, 3, 1, part, 3, torque, 1, 0, wrench + 3, 1);
  s->gemm(ROW_MAJOR, TURNED, PLAIN, 7, 6, 7, 1, inverse, 7, s->jac, 6, 0, a, 6);
  s->gemm(ROW_MAJOR, PLAIN, TURNED, 7, 6, 6, 1, a, 6, full, 6, 0, b, 6);
  s->gemm(ROW_MAJOR, PLAIN, TURNED, 7, 7, 6, 1, b, 6, s->jac, 6, 0, null, 7);
  for (int i = 0; i < 49; i++) null[i] = (i % 8 == 0 ? 1.0 : 0.0) - null[i];
  s->gemv(COLUMN_MAJOR, PLAIN, 7, 7, 1, s->mass, 7, home, 1, 0, pull, 1);
  s->gemv(ROW_MAJOR, PLAIN, 7, 6, 1, s->jac, 6, wrench, 1, 0, tau, 1);
  s->gemv(COLUMN_MAJOR, PLAIN, 7, 7, 1, null, 7, pull, 1, 0, homing, 1);
  for (int i = 0; i < 7; i++) tau[i] = tau[i] + s->bias[i] + homing[i];
}

/* --- the same equations with two Cholesky factors ---------------------------------------------------------------- */

/* The lower factor of the symmetric positive definite n x n matrix `a`, whose rows are `step` apart, in place. */
static void cholesky(int n, double *a, int step) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) {
      double sum = a[i * step + j];
      for (int k = 0; k < j; k++) sum -= a[i * step + k] * a[j * step + k];
      a[i * step + j] = i == j ? sqrt(sum) : sum / a[j * step + j];
    }
}

static void solve_lower(int n, const double *l, int step, double *x) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < i; k++) x[i] -= l[i * step + k] * x[k];
    x[i] /= l[i * step + i];
  }
}

static void solve(int n, const double *l, int step, double *x) {
  solve_lower(n, l, step, x);
  for (int i = n - 1; i >= 0; i--) {
    for (int k = i + 1; k < n; k++) x[i] -= l[k * step + i] * x[k];
    x[i] /= l[i * step + i];
  }
}

/* tau = J^T (decoupled wrench - y) + bias + M h, where A y = J h and A = J M^-1 J^T: the null space projection of the
   pull M h without forming the projection. */
static void torques_fast(Step *s, double tau[7]) {
  double wrench[6], home[7], factor[49], half[6][7], a[36], rot[9], y[6];
  wishes(s, wrench, wrench + 3, home);
  memcpy(factor, s->mass, sizeof factor);
  cholesky(7, factor, 7);
  for (int i = 0; i < 6; i++) {
    for (int j = 0; j < 7; j++) half[i][j] = s->jac[6 * j + i];
    y[i] = 0;
    for (int j = 0; j < 7; j++) y[i] += half[i][j] * home[j];
    solve_lower(7, factor, 7, half[i]);
  }
  for (int i = 0; i < 6; i++)
    for (int j = 0; j <= i; j++) {
      double sum = 0;
      for (int k = 0; k < 7; k++) sum += half[i][k] * half[j][k];
      a[6 * i + j] = sum;
    }
  for (int i = 0; i < 3; i++)
    for (int j = 0; j <= i; j++) rot[3 * i + j] = a[6 * (i + 3) + j + 3];
  cholesky(6, a, 6); /* its upper left 3 x 3 is the factor of the position block */
  cholesky(3, rot, 3);
  solve(3, a, 6, wrench);
  solve(3, rot, 3, wrench + 3);
  solve(6, a, 6, y);
  for (int j = 0; j < 7; j++) {
    double sum = s->bias[j];
    for (int i = 0; i < 6; i++) sum += s->jac[6 * j + i] * (wrench[i] - y[i]);
    for (int i = 0; i < 7; i++) sum += s->mass[7 * j + i] * home[i];
    tau[j] = sum;
  }
}

/* --- step ------------------------------------------------------------------------------------------------------ */

static void drive(Step *s, double grip, double ctrl[9]) {
  const double *low = s->limits, *high = s->limits + 9;
  double tau[7], sign = grip > 0 ? 1 : grip < 0 ? -1 : 0;
  s->fast ? torques_fast(s, tau) : torques(s, tau);
  for (int i = 0; i < 7; i++) ctrl[i] = clip(tau[i], low[i], high[i]);
  for (int i = 0; i < 2; i++) {
    s->gripper[i] = clip(s->gripper[i] + (i ? 1.0 : -1.0) * 0.01 * sign, -1, 1);
    ctrl[7 + i] = 0.5 * (high[7 + i] + low[7 + i]) + 0.5 * (high[7 + i] - low[7 + i]) * s->gripper[i];
  }
}

static void accelerate(Step *s) {
  s->fwd_actuation(s->model, s->data);
  s->fwd_acceleration(s->model, s->data);
  s->fwd_constraint(s->model, s->data);
}

/* Before MuJoCo 3.3.6 each of the reference's solves continues from the last one's result: with the controls of the
   last substep, again, and with the new ones. */
static void solve_thrice(Step *s, const double ctrl[9], int stale) {
  accelerate(s);
  if (!stale) s->fwd_constraint(s->model, s->data);
  memcpy(s->ctrl, ctrl, 9 * sizeof(double));
  accelerate(s);
}

/* Where one Newton step from the last substep's result lands on the minimum, the other two solves land there too. In
   the few substeps where contacts change it does not, and then the path decides where the solver stops. */
static void solve_once(Step *s, const double ctrl[9], int stale) {
  double before[DOFS], old[9];
  memcpy(before, s->warmstart, s->nv * sizeof(double));
  memcpy(old, s->ctrl, sizeof old);
  memcpy(s->ctrl, ctrl, sizeof old);
  accelerate(s);
  int iterations = *s->solver_iterations;
  if (iterations == 0 || (iterations == 1 && *s->solver_gradient < CONVERGED)) return;
  memcpy(s->warmstart, before, s->nv * sizeof(double));
  memcpy(s->ctrl, old, sizeof old);
  solve_thrice(s, ctrl, stale);
}

/* Substeps first..last of one control step. */
void handeye_run(Step *s, const double *action, int first, int last) {
  for (int substep = first; substep <= last; substep++) {
    double ctrl[9];
    int stale = *s->stale;
    s->check_pos(s->model, s->data);
    s->check_vel(s->model, s->data);
    s->fwd_position(s->model, s->data);
    s->fwd_velocity(s->model, s->data);
    if (!stale) read_robot(s);
    *s->stale = 0;
    if (substep == SUBSTEPS_GOAL) set_goal(s, action);
    drive(s, action[6], ctrl);
    if (s->polish && s->fast) {
      solve_once(s, ctrl, stale);
    } else if (s->polish) {
      solve_thrice(s, ctrl, stale);
    } else {
      memcpy(s->ctrl, ctrl, sizeof ctrl);
      accelerate(s);
    }
    s->check_acc(s->model, s->data);
    s->euler(s->model, s->data);
  }
}

/* What native.py compares with its own idea of the Structure before it calls anything. */
int64_t handeye_step_size(void) { return sizeof(Step); }
